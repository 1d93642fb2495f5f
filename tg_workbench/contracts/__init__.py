"""The faces: documents served word for word, each in its own envelope. A route only translates.

Pitfalls: no `await` between the first query of a writing session and its commit, for SQLite has one writer;
an endpoint that waits opens no session of its own but asks `Futures`.
"""
