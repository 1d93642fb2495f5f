"""The Jupyter Server extension that runs and guards the workbench."""
