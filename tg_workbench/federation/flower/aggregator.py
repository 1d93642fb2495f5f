"""Run by Flower's own Python, never by ours: one round of one strategy of Flower, over updates from a pipe.

Frames go both ways: 8 bytes with the length of a JSON header, the header, and as many float32 vectors as it
names, each of `size` numbers. In: `begin` with the parameters and what the strategy remembers, an `update`
for each device, `end`. Out: `done` with the same, or `failed`. No pickle, and nothing is written to disk.

The strategy is driven as its own `start` does it: configure, send and receive by a grid, aggregate. What it
remembers is read from its attributes; one that remembers anything but numbers and parameters is refused.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

NO_FLOWER = 3
try:
    import numpy as np
    from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
    from flwr.serverapp import Grid, strategy
    from flwr.supercore.task_identity import TaskIdentity
except ImportError:
    sys.exit(NO_FLOWER)

MOST_HEADER = 1 << 16
ALL = "all"
"""The name of the one array that a model is here; the strategies that there are work number by number."""
REMADE = ("current_arrays",)
"""Attributes that `configure_train` makes anew out of the parameters that it is given."""


class Refused(Exception):
    """What cannot be done, in words that name no number of any update."""


@dataclass
class Asked:
    """One round: what came in."""

    strategy: str
    options: dict[str, Any]
    round: int
    parameters: np.ndarray
    numbers: dict[str, float]
    vectors: dict[str, np.ndarray]
    updates: list[tuple[np.ndarray, float]] = field(default_factory=list)


# ------------------------------------------------------------------------------------------- frames
def read(source: BinaryIO) -> dict[str, Any]:
    """The next header. Raises EOFError."""
    (length,) = struct.unpack("<Q", exactly(source, 8))
    if length > MOST_HEADER:
        raise EOFError
    header: dict[str, Any] = json.loads(exactly(source, length))
    return header


def exactly(source: BinaryIO, count: int) -> bytearray:
    """So many bytes. Raises EOFError."""
    content = bytearray(count)
    view, at = memoryview(content), 0
    while at < count:
        got = source.readinto(view[at:])  # type: ignore[attr-defined]
        if not got:
            raise EOFError
        at += got
    return content


def vector(source: BinaryIO, size: int) -> np.ndarray:
    """One float32 vector."""
    return np.frombuffer(exactly(source, 4 * size), dtype="<f4")


def write(target: BinaryIO, header: Mapping[str, Any], vectors: Iterable[np.ndarray] = ()) -> None:
    """One frame."""
    content = json.dumps(header, allow_nan=False).encode()
    target.write(struct.pack("<Q", len(content)) + content)
    for each in vectors:
        target.write(np.ascontiguousarray(each, dtype="<f4").data)
    target.flush()


def take(source: BinaryIO) -> Asked:
    """All that a round is made of."""
    header = read(source)
    size = header["size"]
    asked = Asked(
        strategy=header["strategy"],
        options=header["options"],
        round=header["round"],
        parameters=vector(source, size),
        numbers=header["numbers"],
        vectors={},
    )
    for name in header["vectors"]:
        asked.vectors[name] = vector(source, size)
    while (header := read(source))["kind"] == "update":
        asked.updates.append((vector(source, size), header["weight"]))
    return asked


# ------------------------------------------------------------------------------------------- Flower
class Devices(Grid):  # type: ignore[misc]
    """The devices whose updates are here, and no others: a strategy never waits for one that is not."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    def set_run(self, run: Any) -> None:
        """There is one."""

    @property
    def run(self) -> Any:
        """Nobody asks."""
        raise NotImplementedError

    def create_message(self, content: Any, message_type: str, dst_node_id: int, **more: Any) -> Any:
        """A message to a device."""
        return Message(content, dst_node_id, message_type, **more)

    def get_node_ids(self) -> Iterable[int]:
        """Numbers, in the order of the devices' ids."""
        return range(1, len(self._asked.updates) + 1)

    def push_messages(self, messages: Iterable[Any]) -> Iterable[str]:
        """Updates are here before they are asked for: there is nothing to be pushed now and pulled later."""
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Any]:
        """As `push_messages`."""
        raise NotImplementedError

    def send_and_receive(self, messages: Iterable[Any], *, timeout: float | None = None) -> list[Any]:
        """What each device has handed in; an error from whoever has nothing to say to a message."""
        ordered = sorted(messages, key=lambda message: message.metadata.dst_node_id)
        return [self._reply(message) for message in ordered]

    def _reply(self, message: Any) -> Any:
        device = message.metadata.dst_node_id - 1
        if message.metadata.message_type != "train" or not 0 <= device < len(self._asked.updates):
            return Message(Error(1, "this device has not handed in anything"), reply_to=message)
        delta, weight = self._asked.updates[device]
        metrics = MetricRecord({"num-examples": weight})
        content = {"arrays": record(self._asked.parameters + delta), "metrics": metrics}
        return Message(RecordDict(content), reply_to=message)


def aggregated(asked: Asked) -> tuple[np.ndarray, dict[str, float], dict[str, np.ndarray]]:
    """The new parameters, and what the strategy remembers. Raises Refused, and whatever Flower raises."""
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1  # else Message() refuses to be made
    count = len(asked.updates)
    everybody = {"min_train_nodes": count, "min_available_nodes": count, "fraction_evaluate": 0.0}
    rule = getattr(strategy, asked.strategy)(**everybody, **asked.options)
    for name, value in remembered(asked).items():
        setattr(rule, name, value)
    before, grid = dict(vars(rule)), Devices(asked)
    messages = rule.configure_train(asked.round, record(asked.parameters), ConfigRecord(), grid)
    arrays, _ = rule.aggregate_train(asked.round, grid.send_and_receive(messages))
    if arrays is None:
        raise Refused("it made no model of these updates")
    numbers, vectors = to_remember(rule, before)
    return arrays[ALL].numpy(), numbers, vectors


def record(array: np.ndarray) -> Any:
    """A model as Flower carries it."""
    return ArrayRecord({ALL: Array(array)})


def remembered(asked: Asked) -> dict[str, Any]:
    """The attributes of a strategy, out of what the last round left."""
    found: dict[str, Any] = dict(asked.numbers)
    for label, array in asked.vectors.items():
        name, _, kind = label.partition(".")
        found[name] = {"dict": {ALL: array}, "list": [array], "record": record(array)}[kind]
    return found


def to_remember(rule: Any, before: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """What has changed in a strategy. Raises Refused where that is more than numbers and parameters."""
    numbers: dict[str, float] = {}
    vectors: dict[str, np.ndarray] = {}
    for name, value in vars(rule).items():
        if name in REMADE or value is None:
            continue
        if (found := parameters_in(value)) is not None:
            kind, array = found
            vectors[f"{name}.{kind}"] = array
        elif value is before.get(name):
            continue
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers[name] = float(value)
        else:
            raise Refused(f"it remembers {name}, which is neither a number nor parameters")
    return numbers, vectors


def parameters_in(value: Any) -> tuple[str, np.ndarray] | None:
    """In what an attribute holds parameters, and these; None where it holds none."""
    if isinstance(value, ArrayRecord) and list(value) == [ALL]:
        return "record", value[ALL].numpy()
    if isinstance(value, dict) and list(value) == [ALL]:
        return "dict", value[ALL]
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], np.ndarray):
        return "list", value[0]
    return None


# ------------------------------------------------------------------------------------------- process
def end_with(source: BinaryIO) -> None:
    """Kill this whole group of processes once whoever holds the other end of the pipe is gone."""
    source.read(1)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """One round, from pipe to pipe. What is printed on the way goes where errors go."""
    target = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    source = open(0, "rb", buffering=0)  # noqa: SIM115  (it ends with the process)
    try:
        asked = take(source)
    except EOFError:
        sys.exit(1)
    threading.Thread(target=end_with, args=(source,), daemon=True).start()
    try:
        parameters, numbers, vectors = aggregated(asked)
    except Refused as refusal:
        write(target, {"kind": "failed", "reason": str(refusal)})
    except Exception as failure:
        write(target, {"kind": "failed", "reason": f"it failed with {type(failure).__name__}"})
        raise
    else:
        header = {"kind": "done", "numbers": numbers, "vectors": list(vectors)}
        write(target, header, [parameters, *vectors.values()])


if __name__ == "__main__":
    main()
