"""Where Flower is, and how its Python is run: apart, without telemetry, with nothing of ours in sight."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
VARIABLE = "TG_FLOWER_PYTHON"
HOW = f"Flower is not installed: `make flower` puts it into .flower, or {VARIABLE} names its Python"


def flower_python() -> Path | None:
    """The Python that has Flower, if there is one."""
    named = os.environ.get(VARIABLE)
    path = Path(named) if named else ROOT / ".flower" / "bin" / "python"
    return path if path.exists() else None


def wait_for(holds: Callable[[], object], seconds: float = 20.0) -> None:
    """Look until it is so."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def run_flower(*arguments: str, timeout: float = 300.0) -> str:
    """What `grid.py` prints, run by Flower's Python. Raises CalledProcessError."""
    python = flower_python()
    if python is None:
        raise FileNotFoundError(HOW)
    with tempfile.TemporaryDirectory(prefix="tgw-flower-") as home:
        quiet = {
            "HOME": home,
            "FLWR_HOME": home,
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PATH": os.environ["PATH"],
        }
        script = str(Path(__file__).parent / "grid.py")
        done = subprocess.run(
            [str(python), "-I", script, *arguments],
            env=quiet,
            cwd=home,
            check=True,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    return done.stdout
