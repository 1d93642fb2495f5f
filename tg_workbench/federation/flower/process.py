"""The process that Flower runs in, for a round or for a simulation: apart, in a group of its own, on pipes.

It has no credential and no file of ours: it gets numbers and gives numbers back. When either side dies the
other one hears of it by the end of a pipe, so nobody waits for ever and nothing is left over.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import struct
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from tg_workbench.errors import InvalidBatch, Refused

if TYPE_CHECKING:
    from tg_workbench.federation.strategies import Vector

SCRIPT = Path(__file__).with_name("aggregator.py")
MOST_SECONDS = 1800.0
"""How long a round may take in there."""
MOST_HEADER = 1 << 16
MOST_WORDS = 2_000
"""How much is kept of what it says of errors."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
NO_FLOWER = 3
"""How it ends where there is no Flower."""


@dataclass(frozen=True, slots=True)
class Program:
    """What Flower's Python runs."""

    script: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    """Beside what keeps Flower quiet."""
    is_heard: bool = False
    """Whether the end of what it says of errors is kept: not where updates are secret; it may tell them."""


AGGREGATOR = Program(SCRIPT)


class FlowerLost(RuntimeError):
    """The process is gone, killed perhaps, and said nothing: whoever ran the round does so again."""


class FlowerProcess:
    """A process of Flower. Use it as a context: at the end of that it is gone, whatever happened."""

    def __init__(self, python: Path, home: Path, program: Program = AGGREGATOR) -> None:
        """Start it. `home`: a folder for what Flower wants to keep. Raises Refused if that cannot be."""
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        quiet = {
            "HOME": str(home),
            "FLWR_HOME": str(home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PATH": "/usr/bin:/bin",
            **program.environment,
        }
        self._words = bytearray()
        try:
            self._process = subprocess.Popen(  # noqa: S603  (the operator named it)
                [str(python), "-I", str(program.script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if program.is_heard else subprocess.DEVNULL,
                cwd=home,
                env=quiet,
                start_new_session=True,
            )
        except OSError as failure:
            raise Refused("the Python that TG_FLOWER_PYTHON names cannot be started") from failure
        self._is_late = threading.Event()
        self._clock = self._started_clock()
        self._ear = threading.Thread(target=self._hear, daemon=True)
        self._ear.start()

    @property
    def pid(self) -> int:
        """The process, and its group."""
        return self._process.pid

    @property
    def last_words(self) -> str:
        """The end of what it has said of errors, where that is kept."""
        return _COLOUR.sub("", self._words.decode(errors="replace")).strip()

    def begin_anew(self) -> None:
        """Give it its whole time again: for one that does more than one round."""
        self._clock.cancel()
        self._clock = self._started_clock()

    def write(self, header: Mapping[str, Any], vectors: Sequence[Vector] = ()) -> None:
        """Hand it one frame. Raises FlowerLost, Refused once it has had its time."""
        content = json.dumps(header, allow_nan=False).encode()
        pipe = _pipe(self._process.stdin)
        try:
            pipe.write(struct.pack("<Q", len(content)) + content)
            for vector in vectors:
                pipe.write(vector.data.cast("B"))
            pipe.flush()
        except (BrokenPipeError, ValueError) as failure:
            self._lost(failure)

    def read(self, size: int) -> tuple[dict[str, Any], list[Vector]]:
        """Its answer: parameters, what it remembers. Raises FlowerLost; Refused or InvalidBatch with why."""
        import numpy as np

        (length,) = struct.unpack("<Q", self._exactly(8))
        if length > MOST_HEADER:
            self._lost(None)
        header: dict[str, Any] = json.loads(self._exactly(length))
        if header["kind"] == "rows":
            raise InvalidBatch(header["reason"])
        if header["kind"] == "failed":
            raise Refused(f"Flower could not aggregate: {header['reason']}")
        count = 1 + len(header["vectors"])
        return header, [np.frombuffer(self._exactly(4 * size), dtype=np.float32) for _ in range(count)]

    def close(self) -> None:
        """Kill it and all that it has started."""
        self._clock.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._ear.join(timeout=1.0)
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                _pipe(pipe).close()

    def __enter__(self) -> FlowerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exactly(self, count: int) -> bytes:
        content = _pipe(self._process.stdout).read(count)
        if len(content) != count:
            self._lost(None)
        return content

    def _hear(self) -> None:
        """Keep the end of what it says of errors, until all that it has started is gone."""
        if self._process.stderr is None:
            return
        with self._process.stderr as pipe:
            while said := os.read(pipe.fileno(), 1 << 16):
                self._words += said
                del self._words[:-MOST_WORDS]

    def _started_clock(self) -> threading.Timer:
        clock = threading.Timer(MOST_SECONDS, self._be_late)
        clock.daemon = True
        clock.start()
        return clock

    def _be_late(self) -> None:
        self._is_late.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _lost(self, cause: Exception | None) -> NoReturn:
        if self._is_late.is_set():
            raise Refused(f"Flower had not aggregated after {MOST_SECONDS:.0f} seconds") from cause
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._process.wait(timeout=1.0) == NO_FLOWER:
                raise Refused("the Python that TG_FLOWER_PYTHON names has no Flower that will do") from cause
        raise FlowerLost("the process that Flower runs in is gone") from cause


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101  (both were asked for)
    return pipe
