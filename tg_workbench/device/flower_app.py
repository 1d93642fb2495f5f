"""Run by Flower's own Python, never by ours: Flower's simulation on Ray, of devices whose rows lie as files.

Frames come and go as in `federation/flower/aggregator.py`. In: `begin` with the first parameters, then for
each round a `round`, which names the devices that learn in it. Out: `round` with the next parameters; `rows`
or `failed` with why not. Ray pickles what Flower hands its actors, within this machine; we unpickle nothing.

Only where a device learns is this package imported, and put at the end of the path, so that Flower and Ray
have what they pin. Flower's strategy is offered the devices of the round and no others, and gets their
replies in order: it neither draws devices itself nor adds in the order of their coming.
"""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import shutil
import signal
import struct
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

NO_FLOWER = 3
try:
    import numpy as np
    from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp, strategy
    from flwr.simulation import run_simulation
except ImportError:
    sys.exit(NO_FLOWER)
if importlib.util.find_spec("ray") is None:
    sys.exit(NO_FLOWER)

MOST_HEADER = 1 << 24
MOST_REASON = 1_000
MOST_SECONDS = 1800.0
ALL = "all"
"""The name of the one array that a model is here."""
PARTITION = "partition-id"
"""What Flower calls the number of a device."""
ROWS = 4001
"""Our code for a device that cannot learn from what it has."""


class Failed(Exception):
    """What cannot go on, and how it is told: as `rows` or `failed`."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


# ------------------------------------------------------------------------------------------- frames
def exactly(source: BinaryIO, count: int) -> bytes:
    """So many bytes. Raises EOFError."""
    content = source.read(count)
    if len(content) != count:
        raise EOFError
    return content


def read(source: BinaryIO) -> dict[str, Any]:
    """The next header. Raises EOFError."""
    (length,) = struct.unpack("<Q", exactly(source, 8))
    if length > MOST_HEADER:
        raise EOFError
    header: dict[str, Any] = json.loads(exactly(source, length))
    return header


def write(target: BinaryIO, header: Mapping[str, Any], vector: np.ndarray | None = None) -> None:
    """One frame."""
    content = json.dumps(header, allow_nan=False).encode()
    target.write(struct.pack("<Q", len(content)) + content)
    if vector is not None:
        target.write(np.ascontiguousarray(vector, dtype="<f4").data)
    target.flush()


def listen(source: BinaryIO, rounds: queue.Queue[dict[str, Any]]) -> None:
    """Hand on the rounds; at the end of the pipe remove the rows, and kill this whole group of processes."""
    home = Path.cwd()
    try:
        while True:
            rounds.put(read(source))
    except EOFError:
        shutil.rmtree(home, ignore_errors=True)
        os.killpg(0, signal.SIGKILL)


# ------------------------------------------------------------------------------------------ devices
def client_app(home: str, path: list[str]) -> Any:
    """What each device is to Flower. Ray takes it to its actors whole, with what is named in here."""
    client = ClientApp()

    @client.query()  # type: ignore[untyped-decorator]
    def query(message: Message, context: Any) -> Message:
        """Which device this is."""
        told = {"device": context.node_config[PARTITION]}
        return Message(RecordDict({"metrics": MetricRecord(told)}), reply_to=message)

    @client.train()  # type: ignore[untyped-decorator]
    def train(message: Message, context: Any) -> Message:
        """The parameters that a device comes to from those of the round."""
        sys.path.extend(place for place in path if place not in sys.path)
        from tg_workbench.device.handed_over import learn
        from tg_workbench.errors import InvalidRequest

        start = message.content["arrays"][ALL].numpy()
        number = message.content["config"]["number"]
        try:
            delta, samples = learn(Path(home), context.node_config[PARTITION], number, start)
        except InvalidRequest as failure:
            return Message(Error(ROWS, str(failure)), reply_to=message)
        arrays = ArrayRecord({ALL: Array(start + delta)})
        metrics = MetricRecord({"num-examples": samples})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    return client


# ------------------------------------------------------------------------------------------- server
class Drawn(Grid):  # type: ignore[misc]
    """The devices of the round and no others, and their replies in order; the rest is Flower's grid."""

    def __init__(self, grid: Any, devices: int) -> None:
        self._grid = grid
        deadline = time.monotonic() + MOST_SECONDS
        while len(nodes := [*grid.get_node_ids()]) < devices:  # Flower makes them while this already runs
            if time.monotonic() > deadline:
                raise Failed("failed", "it has not made all devices in time")
            time.sleep(0.05)
        asked = [Message(RecordDict(), dst_node_id=node, message_type="query") for node in nodes]
        replies = [sound(reply) for reply in grid.send_and_receive(asked, timeout=MOST_SECONDS)]
        if len(replies) != len(nodes):
            raise Failed("failed", "not every device has said in time which one it is")
        self._device = {r.metadata.src_node_id: int(r.content["metrics"]["device"]) for r in replies}
        self._node = {device: node for node, device in self._device.items()}
        self._nodes: list[int] = []

    def draw(self, devices: list[int]) -> None:
        """Who is in the next round."""
        self._nodes = [self._node[device] for device in devices]

    def set_run(self, run: Any) -> None:
        """There is one."""

    @property
    def run(self) -> Any:
        """Flower's."""
        return self._grid.run

    def create_message(self, content: Any, message_type: str, dst_node_id: int, **more: Any) -> Any:
        """A message to a device."""
        return Message(content, dst_node_id, message_type, **more)

    def get_node_ids(self) -> Iterable[int]:
        """The nodes of the round, in the order of the devices."""
        return list(self._nodes)

    def push_messages(self, messages: Iterable[Any]) -> Iterable[str]:
        """As Flower does it."""
        pushed: Iterable[str] = self._grid.push_messages(messages)
        return pushed

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Any]:
        """As Flower does it."""
        pulled: Iterable[Any] = self._grid.pull_messages(message_ids)
        return pulled

    def send_and_receive(self, messages: Iterable[Any], *, timeout: float | None = None) -> list[Any]:
        """Every reply, in the order of the devices. Raises Failed where one is missing or is an error."""
        sent = list(messages)
        replies = [sound(reply) for reply in self._grid.send_and_receive(sent, timeout=timeout)]
        if len(replies) != len(sent):
            raise Failed("failed", "a device has not answered in time")
        return sorted(replies, key=lambda reply: self._device[reply.metadata.src_node_id])


def sound(reply: Any) -> Any:
    """The reply. Raises Failed where it tells of an error."""
    if reply.has_error():
        kind = "rows" if reply.error.code == ROWS else "failed"
        raise Failed(kind, reply.error.reason)
    return reply


def served(
    begin: Mapping[str, Any], parameters: np.ndarray, grid: Any, rounds: Any, target: BinaryIO
) -> None:
    """Flower's strategy, for as many rounds as are asked for. Raises Failed, and whatever Flower raises."""
    drawn, config = Drawn(grid, begin["devices"]), ConfigRecord()
    everybody = {"min_train_nodes": 1, "min_available_nodes": 1, "fraction_evaluate": 0.0}
    rule = getattr(strategy, begin["strategy"])(**everybody, **begin["options"])
    last = [ArrayRecord({ALL: Array(parameters)})]

    def after(number: int, arrays: Any) -> None:
        """Tell of a round, and wait for the next."""
        if number:
            if arrays is last[0]:
                raise Failed("failed", "it made no model of these updates")
            write(target, {"kind": "round", "vectors": []}, arrays[ALL].numpy())
        last[0] = arrays
        asked = rounds.get()
        config["number"] = asked["number"]
        drawn.draw(asked["devices"])

    rule.start(
        drawn, last[0], num_rounds=sys.maxsize, timeout=MOST_SECONDS, train_config=config, evaluate_fn=after
    )


# ------------------------------------------------------------------------------------------ process
def main() -> None:
    """A simulation, from pipe to pipe. What is printed on the way goes where errors go."""
    target = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    source = open(0, "rb")  # noqa: SIM115  (it ends with the process)
    try:
        begin = read(source)
        parameters = np.frombuffer(exactly(source, 4 * begin["size"]), dtype="<f4")
    except EOFError:
        sys.exit(1)
    home = os.getcwd()  # noqa: PTH109
    sys.argv[0] = str(
        Path(home) / "simulation"
    )  # Ray puts the folder of this at the head of its actors' path
    rounds: queue.Queue[dict[str, Any]] = queue.Queue(1)
    threading.Thread(target=listen, args=(source, rounds), daemon=True).start()
    server = ServerApp()

    @server.main()  # type: ignore[untyped-decorator]
    def serve(grid: Any, context: Any) -> None:
        """All rounds, or why not; whoever listens then ends this process."""
        try:
            served(begin, parameters, grid, rounds, target)
        except Failed as failure:
            write(target, {"kind": failure.kind, "reason": str(failure)[:MOST_REASON]})
        except Exception as failure:
            reason = f"it failed with {type(failure).__name__}: {failure}"[:MOST_REASON]
            write(target, {"kind": "failed", "reason": reason})
            raise

    if list(sys.version_info[:2]) != begin["python"]:
        ours, theirs = ".".join(map(str, begin["python"])), ".".join(map(str, sys.version_info[:2]))
        reason = (
            f"its Python is {theirs} and the workbench's {ours}; devices learn where both can be imported"
        )
        write(target, {"kind": "failed", "reason": reason})
        return
    folder = Path(home) / "ray"
    folder.mkdir(mode=0o700)
    ray = {"num_cpus": begin["workers"], "include_dashboard": False, "_temp_dir": str(folder)}
    run_simulation(
        server,
        client_app(home, begin["path"]),
        num_supernodes=begin["devices"],
        backend_config={"init_args": ray, "client_resources": {"num_cpus": 1}},
    )


if __name__ == "__main__":
    main()
