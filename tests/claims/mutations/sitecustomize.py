"""Plants a bug in every Python process that the test of a test starts: it is on their PYTHONPATH."""

from __future__ import annotations

import os

if os.environ.get("PLANTED_BUG"):
    from planted import plant  # type: ignore[import-not-found]  # beside this file, which is on the path

    plant(os.environ["PLANTED_BUG"])
