"""How the rounds of a simulation are made by Flower: its strategy, its simulation engine, its actors on Ray.

Flower runs as `flower_app.py`, in a process of its own Python. Which devices learn in a round, and what each
draws its order from, is told from here, so the same seed gives the same numbers, and those of the simulation
in process but for rounding. The rows lie in a folder that only this user can read, until the end.

Pitfalls: devices learn on processors, never on a GPU. Ray listens on this machine's own address alone, and
to who knows its token; it takes some hundred MB of memory, as many more for each processor, and seconds to
begin.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

from tg_workbench.device.flock import Flock
from tg_workbench.device.handed_over import hand_over
from tg_workbench.device.learning import Task
from tg_workbench.device.rows import Rows
from tg_workbench.errors import InvalidField, Refused
from tg_workbench.federation.flower import FlowerStrategy, flower_names, is_flower
from tg_workbench.federation.flower.process import FlowerLost, FlowerProcess, Program
from tg_workbench.federation.strategies import Vector
from tg_workbench.federation.strategies.mean import check, moved

TWINS = {"fedavg": "flower:FedAvg"}
"""Ours that come to what Flower's come to; the others differ in their options, and go by Flower's names."""
APP = Path(__file__).with_name("flower_app.py")
VARIABLE = "TG_FLOWER_PYTHON"
UNSET = (
    f"Flower runs in an environment of its own: name its Python here, or by {VARIABLE}; `make flower` in this"
    " project's folder makes one, whose Python is .flower/bin/python (its whole path)"
)
MOST_DEVICES = 10_000
"""Flower looks at each of them ten times a second."""
LONGEST_FOLDER = 32
"""Ray puts sockets below it, whose names have an end at about a hundred letters."""


class FlowerSimulation:
    """Flower, while it simulates. Raises InvalidField, InvalidBatch, Refused."""

    fewest = 1

    def __init__(
        self,
        strategy: FlowerStrategy,
        task: Task,
        devices: Sequence[Rows],
        seed: int,
        python: Path | str | None,
    ) -> None:
        """Check everything first: Flower itself is started by the first round."""
        if len(devices) > MOST_DEVICES:
            raise InvalidField("devices", f"Flower simulates {MOST_DEVICES:,} at most")
        self._strategy, self._task, self._seed = strategy, task, seed
        self._python, self._devices = flower_python(python), devices
        self._samples = Flock(task, devices).samples  # which checks the rows
        self._process: FlowerProcess | None = None
        self._begun_things = contextlib.ExitStack()
        self.close = weakref.finalize(self, self._begun_things.close)
        """Kill Flower, and remove its folder with the rows: at the latest when nobody has this any more."""

    def next(self, number: int, who: Sequence[int], parameters: Vector) -> tuple[Vector, Mapping[str, float]]:
        """The next model, as Flower makes it. Raises InvalidBatch, UpdateInvalid; Refused with why."""
        try:
            process = self._process or self._begun(parameters)
            process.begin_anew()
            process.write({"kind": "round", "number": number, "devices": list(who)})
            _, (found, *_) = process.read(self._task.layout.size)
        except FlowerLost as failure:
            self.close()
            raise Refused(f"Flower's process is gone; {self._said()}") from failure
        check(found, self._task.layout.size)
        figures = {"devices": float(len(who)), "samples": float(sum(self._samples[each] for each in who))}
        outcome = moved(parameters, found - parameters, {}, figures)
        return outcome.parameters, outcome.figures

    def _begun(self, parameters: Vector) -> FlowerProcess:
        """Flower's process, told all but the rounds."""
        home = Path(tempfile.mkdtemp(prefix="tgw-", dir=_place()))
        self._begun_things.callback(_remove, home)
        hand_over(home, self._task, self._devices, self._seed)
        self._process = FlowerProcess(self._python, home, Program(APP, _environment(), is_heard=True))
        self._begun_things.callback(self._process.close)
        begin = {
            "kind": "begin",
            "strategy": self._strategy.kind.removeprefix("flower:"),
            "options": dict(self._strategy.options),
            "devices": len(self._devices),
            "workers": min(len(self._devices), _processors()),
            "size": len(parameters),
            "python": list(sys.version_info[:2]),
            "path": _our_path(),
        }
        self._process.write(begin, [parameters])
        return self._process

    def _said(self) -> str:
        words = self._process.last_words if self._process is not None else ""
        return f"its last words: {words}" if words else "it said nothing"


def flower_strategy(name: str, options: Mapping[str, object]) -> FlowerStrategy:
    """Flower's own strategy of this name, or our name for it. Raises InvalidField."""
    theirs = TWINS.get(name, name)
    if not is_flower(theirs):
        raise InvalidField("strategy", f"Flower simulates {', '.join([*TWINS, *flower_names()])}")
    return FlowerStrategy(theirs, options)


def flower_python(named: Path | str | None) -> Path:
    """The Python that has Flower. Raises InvalidField where none is named, or what is named is none."""
    text = str(named or "") or os.environ.get(VARIABLE, "").strip()
    if not text:
        raise InvalidField("flower_python", UNSET)
    path = Path(text).expanduser()
    if not (path.is_absolute() and path.is_file() and os.access(path, os.X_OK)):
        raise InvalidField("flower_python", "it is the whole path of a program, or unset")
    return path


def _environment() -> dict[str, str]:
    """What keeps Ray quiet, on this machine, and to itself."""
    return {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # no cluster: it listens on 127.0.0.1, on Linux too
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "CUDA_VISIBLE_DEVICES": "",
    }


def _our_path() -> list[str]:
    """Where this package is, and what it needs: it goes to the end of the path where devices learn."""
    ours = str(Path(__file__).parents[2])
    places = [place for place in sys.path if Path(place).name in ("site-packages", "dist-packages")]
    return list(dict.fromkeys([ours, *places]))


def _place() -> str:
    """Where temporary folders go, unless that is too far down for Ray's sockets."""
    usual = tempfile.gettempdir()
    return usual if len(usual) <= LONGEST_FOLDER else "/tmp"  # noqa: S108  (the folder in it is private)


def _processors() -> int:
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def _remove(home: Path) -> None:
    deadline = time.monotonic() + 5.0  # what was killed may be writing until it is dead
    while home.exists() and time.monotonic() < deadline:
        shutil.rmtree(home, ignore_errors=True)
