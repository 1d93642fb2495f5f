"""What the devices of a simulation learn from, as files in a folder: written here, read where each learns.

Rows are `.npz` without pickle, the task is JSON. Whoever reads them runs in a Python of its own, which has
this package at the end of its path.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from tg_workbench.device.flock import Flock
from tg_workbench.device.in_process import seed_of
from tg_workbench.device.learning import Task
from tg_workbench.device.rows import Rows
from tg_workbench.engine.specs import Architecture
from tg_workbench.federation.strategies import Vector
from tg_workbench.federation.updates import Layout

TASK = "task.json"


def hand_over(folder: Path, task: Task, devices: Sequence[Rows], seed: int) -> None:
    """Write down what each device learns from, and how. The rows have been checked."""
    asked = {**asdict(replace(task, seed=seed)), "layout": task.layout.as_json()}
    (folder / TASK).write_text(json.dumps(asked))
    for device, rows in enumerate(devices):
        columns = {name: np.asarray(rows[name]) for name in ("features", "targets")}
        np.savez(_rows(folder, device), allow_pickle=False, **columns)


def learn(folder: Path, device: int, number: int, start: Vector) -> tuple[Vector, int]:
    """One device's update in this round, and how many rows it has. Raises InvalidBatch."""
    task = _task(folder)
    with np.load(_rows(folder, device), allow_pickle=False) as rows:
        flock = Flock(task, [dict(rows)])
    flown = flock.learn([0], [seed_of(task.seed, number, device)], start)
    return flown.deltas[0], flock.samples[0]


def _task(folder: Path) -> Task:
    asked = json.loads((folder / TASK).read_text())
    sides, outputs, hidden = (asked["shape"][each] for each in ("input_shape", "output_size", "hidden_sizes"))
    shape = Architecture(tuple(sides), outputs, tuple(hidden))
    return Task(**{**asked, "shape": shape, "layout": Layout.from_json(asked["layout"])})


def _rows(folder: Path, device: int) -> Path:
    return folder / f"rows-{device}.npz"
