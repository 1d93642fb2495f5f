"""Ports for servers that are told theirs: those that the system gives to nobody by itself."""

from __future__ import annotations

import itertools
import os
import random
import re
import socket

FIRST, COUNT = 20_000, 1000
"""Below where Linux begins to give ports away: 32768, unless told otherwise."""
_WORKER = int((re.search(r"\d+", os.environ.get("PYTEST_XDIST_WORKER", "")) or ["0"])[0]) % 10
_NEXT = itertools.count(random.randrange(COUNT))  # noqa: S311  (guards nothing)


def free_port() -> int:
    """A port that nobody listens on, and nobody else will before whoever is told it.

    One that the system has just given and taken back, it may give to the next who connects or listens
    anywhere: a server that takes a second to start finds it taken.
    """
    for number in itertools.islice(_NEXT, COUNT):
        port = FIRST + COUNT * _WORKER + number % COUNT
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no port from {FIRST} on is free")
