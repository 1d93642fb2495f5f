"""Twenty models become one: the mean and its memory beside Flower's, the robust rules beside numpy.

The mean is of 20 × 25M float32, each side in a process of its own, memory counted from what the imports left.
Our updates lie in files, as they do in a round, and are mapped one by one; Flower holds all of them. Seconds
are the processor's, so that others at work beside us do not count.
"""

from __future__ import annotations

import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.flower.environment import flower_python, run_flower
from tg_workbench.federation.strategies import Update, Vector, named

DEVICES, NUMBERS, ROBUST_NUMBERS, TURNS = 20, 25_000_000, 4_000_000, 3
MODEL_KIB = NUMBERS * 4 / 1024
Row = dict[str, Any]


def main() -> list[Row]:
    """Measure both, and return the rows."""
    ours = [apart() for _ in range(TURNS)]
    peer = (
        [json.loads(run_flower("speed", str(DEVICES), str(NUMBERS))) for _ in range(TURNS)]
        if flower_python()
        else []
    )
    return [throughput(ours, peer), memory(ours, peer), *robust()]


def apart() -> dict[str, float]:
    """`mean` in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.aggregation"], check=True, capture_output=True, text=True
    )
    return dict(json.loads(done.stdout))


def throughput(ours: list[dict[str, float]], peer: list[dict[str, float]]) -> Row:
    """GB of updates per second of one processor."""
    size = DEVICES * NUMBERS * 4 / 1e9
    mine, theirs = (
        size / min((turn["seconds"] for turn in turns), default=math.inf) for turns in (ours, peer)
    )
    row: Row = {"case": f"mean of {DEVICES} × {NUMBERS // 10**6}M (GB/s)", "target": "at least 4 × Flower's"}
    if not peer:
        return {**row, "value": mine, "peer_name": "Flower is not installed"}
    ratio = mine / theirs
    return {**row, "ours": mine, "peer": theirs, "peer_name": "flower", "ratio": ratio, "met": ratio >= 4.0}


def memory(ours: list[dict[str, float]], peer: list[dict[str, float]]) -> Row:
    """Peak memory in models."""
    mine = max(turn["kib"] for turn in ours) / MODEL_KIB
    row: Row = {
        "case": "peak memory of that mean (models)",
        "target": "at most 2, and a block",
        "met": mine <= 2.02,
    }
    if not peer:
        return {**row, "value": mine, "peer_name": "Flower is not installed"}
    theirs = max(turn["kib"] for turn in peer) / MODEL_KIB
    return {**row, "ours": mine, "peer": theirs, "peer_name": "flower", "ratio": mine / theirs}


def robust() -> list[Row]:
    """Seconds of the rules that need each update."""
    rng = np.random.default_rng(0)
    deltas = [rng.random(ROBUST_NUMBERS, dtype=np.float32) for _ in range(DEVICES)]
    rows = []
    for name, peer in NUMPY.items():
        ours, theirs = [], []
        for _ in range(TURNS):
            ours.append(seconds(lambda name=name: aggregate(name, deltas)))
            theirs.append(seconds(lambda peer=peer: peer(np.stack(deltas))))
        mine, other = statistics.median(ours), statistics.median(theirs)
        rows.append(
            {
                "case": f"{name} of {DEVICES} × {ROBUST_NUMBERS // 10**6}M (s)",
                "ours": mine,
                "peer": other,
                "peer_name": "numpy",
                "ratio": mine / other,
                "target": "at most 1.0",
                "met": mine <= other,
            }
        )
    return rows


def trimmed(stack: np.ndarray) -> np.ndarray:
    """As Flower and scipy do it."""
    off = int(0.2 * len(stack))
    return np.partition(stack, (off, len(stack) - off - 1), axis=0)[off : len(stack) - off].mean(axis=0)


def krum(stack: np.ndarray) -> np.ndarray:
    """As Flower does it, in float32."""
    squares = np.square(stack).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * stack @ stack.T
    near = len(stack) - 3
    best = np.argsort(np.sort(distances, axis=1)[:, 1 : near + 1].sum(axis=1))[:near]
    return stack[best].mean(axis=0)


NUMPY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "median": lambda stack: np.median(stack, axis=0),
    "trimmed-mean": trimmed,
    "multi-krum": krum,
}


def aggregate(name: str, deltas: list[Vector]) -> Vector:
    """One round of a strategy from a model of zeros."""
    aggregation = named(name).begin(np.zeros(len(deltas[0]), np.float32), {})
    for delta in deltas:
        aggregation.add(Update(delta, 10.0))
    return aggregation.finish().parameters


def seconds(act: Callable[[], object]) -> float:
    """How long one processor works at it."""
    began = time.process_time()
    act()
    return time.process_time() - began


def mean(folder: Path) -> dict[str, float]:
    """Seconds and peak KiB of a round of FedAvg: its model and each update are mapped from a file."""
    import torch

    torch.zeros(1).add_(torch.ones(1), alpha=2.0)
    rng = np.random.default_rng(0)
    path = folder / "model"
    with path.open("wb") as file:
        for start in range(0, NUMBERS, 1_000_000):
            rng.random(min(1_000_000, NUMBERS - start), dtype=np.float32).tofile(file)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took = time.process_time()
    aggregation = named("fedavg").begin(np.memmap(path, np.float32, "r"), {})
    for device in range(DEVICES):
        aggregation.add(Update(np.memmap(path, np.float32, "r"), 10.0 + device))
    aggregation.finish()
    took = time.process_time() - took
    return {"seconds": took, "kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="tgw-bench-") as given:
        print(json.dumps(mean(Path(given))))
