"""The schema's history: one numbered file per change, forwards only in releases, batch mode for SQLite."""
