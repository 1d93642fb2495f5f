"""Notebook widgets: live loss, privacy budget, a whole training panel."""
