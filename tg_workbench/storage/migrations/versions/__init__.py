"""Numbered revisions, oldest first."""
