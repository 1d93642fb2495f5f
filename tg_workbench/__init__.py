"""TG Workbench: train on data you may not leak."""

__version__ = "0.1.0"
