"""TG Workbench's own contract: what the documents need and none of them has."""
