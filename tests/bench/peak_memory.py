"""The memory that training needs beyond the model itself: private, without privacy, and by Opacus.

Every kind runs in a process of its own. A first model takes a step and is thrown away, so that what libraries
set up once is not counted; a second one takes two, from the level just before them to their peak. Everything
that steps leave behind counts, as the optimizer's state does. Linux only: it reads /proc.
"""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
KINDS = ("plain", "ours", "hooks", "ghost")
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
"""Have what is freed leave the process, so that a level is what is in use."""


def main() -> list[dict[str, Any]]:
    """Measure every case of `dp_step` and return its rows."""
    from tests.bench.dp_step import cases

    return [row for number, case in enumerate(cases()) for row in rows_of(number, case.name)]


def rows_of(number: int, name: str) -> list[dict[str, Any]]:
    """One case: ours beside Opacus's two modes and beside no privacy, in MB."""
    peaks = {kind: apart(number, kind) for kind in KINDS}
    rows = []
    for peer in ("hooks", "ghost", "plain"):
        row = {
            "case": f"{name} (MB)",
            "ours": round(peaks["ours"], 1),
            "peer": round(peaks[peer], 1),
            "peer_name": f"opacus {peer}" if peer != "plain" else "no privacy",
            "ratio": round(peaks["ours"] / peaks[peer], 3),
        }
        if peer == "hooks":
            row |= {"target": "not above opacus hooks", "met": peaks["ours"] <= peaks["hooks"]}
        rows.append(row)
    return rows


def apart(number: int, kind: str) -> float:
    """`peak` in a fresh process, in MB."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.peak_memory", str(number), kind],
        env={**os.environ, **GIVE_BACK},
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


def peak(number: int, kind: str) -> float:
    """MB between the level before two steps and their peak, in this process."""
    import torch

    from tests.bench.dp_step import cases, steps_of

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    make = steps_of(cases()[number])[kind]
    make()()
    step = make()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = read("VmRSS")
    CLEAR.write_text("5")  # from here on the peak counts anew
    step()
    step()
    return (read("VmHWM") - before) / 1024


def read(name: str) -> int:
    """A line of /proc/self/status, in KiB."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1])


if __name__ == "__main__":
    print(peak(int(sys.argv[1]), sys.argv[2]))
