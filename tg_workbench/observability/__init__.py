"""Telling ourselves how it goes: health and logs. Nothing a caller sent is ever written down.

Pitfalls: an exception's text may hold a row, a prompt or a URL with a password; logs take its type and where
it happened, never its text.
"""
