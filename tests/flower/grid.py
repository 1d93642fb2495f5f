"""Run by Flower's own Python, never by ours: strategies of Flower over devices whose updates lie in a file.

    python -I grid.py equal NAME OPTIONS input.npz output.npz     NAME: ours, or Flower's own
    python -I grid.py speed DEVICES NUMBERS
    python -I grid.py simulate DEVICES ROUNDS NUMBERS
    python -I grid.py options NAMES
    python -I grid.py version

`input.npz` holds `parameters`, `deltas` (rounds × devices × numbers) and `samples` (devices); `output.npz`
the parameters after each round. `speed` prints seconds and peak KiB of one `aggregate_train`; `simulate` the
seconds of so many rounds on Ray: without and with measuring on the devices, and of its start.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import resource
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid, strategy
from flwr.supercore.task_identity import TaskIdentity

STRATEGIES = {
    "fedavg": strategy.FedAvg,
    "fedprox": strategy.FedProx,
    "fedavgm": strategy.FedAvgM,
    "fedadam": strategy.FedAdam,
    "fedyogi": strategy.FedYogi,
    "fedadagrad": strategy.FedAdagrad,
    "median": strategy.FedMedian,
    "trimmed-mean": strategy.FedTrimmedAvg,
    "multi-krum": strategy.MultiKrum,
}


class Devices(Grid):
    """Devices that answer at once, each with the update that it was given beforehand."""

    def __init__(self, deltas: np.ndarray, samples: np.ndarray) -> None:
        self.deltas, self.samples, self.rounds = deltas, samples, 0

    def set_run(self, run: Any) -> None:
        """Not asked for."""

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *args: Any, **named: Any) -> Message:
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return range(1, len(self.samples) + 1)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        asked = sorted(messages, key=lambda message: message.metadata.dst_node_id)
        if asked:
            self.rounds += 1
        return [self.answer(message, message.metadata.dst_node_id - 1) for message in asked]

    def answer(self, message: Message, device: int) -> Message:
        given = message.content["arrays"]["all"].numpy()
        return replying(message, given + self.deltas[self.rounds - 1, device], int(self.samples[device]))


def replying(message: Message, parameters: np.ndarray, samples: int) -> Message:
    """A device's answer to a message."""
    content = {
        "arrays": ArrayRecord({"all": Array(parameters)}),
        "metrics": MetricRecord({"num-examples": samples}),
    }
    return Message(RecordDict(content), reply_to=message)


def equal(name: str, options: str, source: str, target: str) -> None:
    """All rounds of one strategy."""
    given = np.load(source, allow_pickle=False)
    deltas, devices = given["deltas"], len(given["samples"])
    rule = (STRATEGIES.get(name) or getattr(strategy, name))(
        fraction_evaluate=0.0, min_train_nodes=devices, min_available_nodes=devices, **json.loads(options)
    )
    after = []
    start = ArrayRecord({"all": Array(given["parameters"])})

    def remember(number: int, arrays: ArrayRecord) -> None:
        if number:
            after.append(arrays["all"].numpy())

    rule.start(Devices(deltas, given["samples"]), start, num_rounds=len(deltas), evaluate_fn=remember)
    np.savez(target, after=np.stack(after))


def speed(devices: str, numbers: str) -> None:
    """One mean of as many models; memory counts from what the imports left."""
    size = int(numbers)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rule = strategy.FedAvg(fraction_evaluate=0.0)
    rng = np.random.default_rng(0)
    message = Message(RecordDict(), dst_node_id=1, message_type="train")
    replies = [replying(message, rng.random(size, dtype=np.float32), 10 + n) for n in range(int(devices))]
    began = time.process_time()
    rule.aggregate_train(1, replies)
    seconds = time.process_time() - began
    print(
        json.dumps({"seconds": seconds, "kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before})
    )


def simulate(devices: str, rounds: str, numbers: str) -> None:
    """FedAvg on Ray, as Flower has it by default, over devices that give back what they were given."""
    from flwr.app import Context
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp
    from flwr.simulation import run_simulation

    server, client = ServerApp(), ClientApp()
    took: dict[str, float] = {}

    @server.main()  # type: ignore[untyped-decorator]
    def main(grid: Grid, context: Context) -> None:
        for name, part, count in (("first", 1.0, 1), ("learning", 0.0, rounds), ("measuring", 1.0, rounds)):
            rule = strategy.FedAvg(fraction_evaluate=part, min_available_nodes=int(devices))
            began = time.perf_counter()
            rule.start(grid, start, num_rounds=int(count))
            took[name] = time.perf_counter() - began

    @client.train()  # type: ignore[untyped-decorator]
    def train(message: Message, context: Context) -> Message:
        return replying(message, message.content["arrays"]["all"].numpy(), 10)

    @client.evaluate()  # type: ignore[untyped-decorator]
    def evaluate(message: Message, context: Context) -> Message:
        metrics = MetricRecord({"num-examples": 10, "accuracy": 0.5})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    start = ArrayRecord({"all": Array(np.zeros(int(numbers), np.float32))})
    resources = {"client_resources": {"num_cpus": 1}}
    began = time.perf_counter()
    run_simulation(server, client, num_supernodes=int(devices), backend_config=resources)
    rest = time.perf_counter() - began - sum(took.values())
    print(json.dumps({**took, "start": rest + took["first"], "ray": importlib.metadata.version("ray")}))


def options(names: str) -> None:
    """What the constructors of these strategies take, as JSON."""
    told = {name: list(inspect.signature(getattr(strategy, name)).parameters) for name in names.split(",")}
    print(json.dumps(told))


def version() -> None:
    """Which Flower this is."""
    print(importlib.metadata.version("flwr"))


if __name__ == "__main__":
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1  # else Message() refuses to be made
    commands: dict[str, Callable[..., None]] = {
        "equal": equal,
        "speed": speed,
        "simulate": simulate,
        "options": options,
        "version": version,
    }
    commands[sys.argv[1]](*sys.argv[2:])
