"""Twenty devices, twenty rounds, one machine: ours learn, Flower's on Ray give back what they were given.

Ours tell the accuracy after each round, and so do Flower's by default. Ray's workers are up before Flower's
rounds are timed; what their start takes, with one round, is a row of its own. The clock is the wall's, for
Ray spreads over processes: measure on a machine that has nothing else to do.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

from tests.flower.environment import flower_python, run_flower
from tg_workbench.sdk.device import Rows, simulate

DEVICES, ROUNDS, TURNS = 20, 20, 9
ROWS, SIDE, CLASSES = 80, 64, 10
PARTS = ("measuring", "learning")
"""What Flower tells of its seconds."""
NUMBERS = {"logistic": SIDE * CLASSES + CLASSES, "mlp": SIDE * 64 + 64 + 64 * CLASSES + CLASSES}
Row = dict[str, Any]


def main() -> list[Row]:
    """Measure both, and return the rows."""
    devices = [rows_of(seed) for seed in range(DEVICES)]
    rows = []
    for architecture, numbers in NUMBERS.items():
        peer = theirs(numbers)
        rows += compared(architecture, seconds(architecture, devices), peer)
    return [*rows, *([{"case": "start of Ray (s)", "value": peer["start"]}] if peer else [])]


def compared(architecture: str, mine: float, peer: dict[str, float] | None) -> list[Row]:
    """Both, and how many times as long Flower takes: as it is by default, and without measuring."""
    case = f"{DEVICES} devices × {ROUNDS} rounds, {architecture} (s)"
    row: Row = {"case": case, "target": "at least 20 × as quick"}
    if peer is None:
        return [{**row, "value": mine, "peer_name": "Flower is not installed"}]
    whole, half = ({"ours": mine, "peer": peer[name], "ratio": peer[name] / mine} for name in PARTS)
    return [
        {**row, **whole, "peer_name": "flower on ray", "met": whole["ratio"] >= 20.0},
        {"case": case, **half, "peer_name": "flower on ray, measuring nothing"},
    ]


def theirs(numbers: int) -> dict[str, float] | None:
    """What Flower says of itself, if it is there."""
    if not flower_python():
        return None
    said = run_flower("simulate", str(DEVICES), str(ROUNDS), str(numbers), timeout=600.0)
    return dict(json.loads(said.splitlines()[-1]))


def seconds(architecture: str, devices: list[Rows]) -> float:
    """The best of some turns: five steps in each round for each device, and 1,600 rows measured after it."""
    took = []
    for _ in range(TURNS):
        began = time.perf_counter()
        simulate(devices, architecture, rounds=ROUNDS, batch_size=16, learning_rate=0.1)
        took.append(time.perf_counter() - began)
    return min(took)


def rows_of(seed: int) -> Rows:
    """A device's rows."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(ROWS, SIDE)).astype(np.float32)
    return {"features": features, "targets": generator.integers(0, CLASSES, ROWS)}
