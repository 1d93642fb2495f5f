"""Twenty devices learn handwritten digits together, by our strategies and local rules, in plain numpy.

The setting is that of McMahan et al. 2017, Table 2, made small: a network of 64-64-10 on scikit-learn's
digits, a fifth of the devices in each round, data spread evenly (IID) or as two shards, sorted by digit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

import numpy as np
from sklearn.datasets import load_digits

from tg_workbench.errors import UpdateInvalid
from tg_workbench.federation.strategies import (
    LocalRule,
    State,
    Strategy,
    Update,
    Vector,
    named,
)
from tg_workbench.federation.strategies.local import add_control, add_proximal, new_control
from tg_workbench.federation.updates import Compression, Layout, compressed, read_update

DEVICES, PER_ROUND, TEST = 20, 4, 360
MEASURED: dict[tuple[int, int | None], tuple[int, int]] = {
    (1, None): (44, 93),
    (5, None): (9, 66),
    (1, 10): (15, 53),
    (20, None): (3, 45),
    (5, 10): (5, 31),
    (20, 10): (3, 43),
}
"""By epochs and rows of a batch: rounds to 95 %, IID and two shards, as another implementation had them."""
LAYOUT = Layout.of({"0.weight": (64, 64), "0.bias": (64,), "1.weight": (64, 10), "1.bias": (10,)})
PLAIN = Compression()
Rows = tuple[np.ndarray, np.ndarray]
Arrays = Mapping[str, Vector]


@dataclass(frozen=True)
class Plan:
    """How the devices train: so many epochs, in batches of so many rows (None: all of them)."""

    epochs: int
    batch: int | None
    learning_rate: float
    iid: bool
    seed: int = 0
    compression: Compression = PLAIN


@cache
def digits() -> tuple[Rows, Rows]:
    """Training and test rows, shuffled once."""
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    pixels, labels = (pixels[order] / 16).astype(np.float32), labels[order]
    return (pixels[TEST:], labels[TEST:]), (pixels[:TEST], labels[:TEST])


def spread(iid: bool, seed: int) -> list[Rows]:
    """The training rows of each device."""
    (pixels, labels), _ = digits()
    rng = np.random.default_rng(seed)
    if iid:
        parts = np.array_split(rng.permutation(len(labels)), DEVICES)
    else:
        shards = np.array_split(np.argsort(labels, kind="stable"), 2 * DEVICES)
        dealt = rng.permutation(2 * DEVICES)
        parts = [np.concatenate([shards[n] for n in pair]) for pair in dealt.reshape(DEVICES, 2)]
    return [(pixels[part], labels[part]) for part in parts]


def beginning(seed: int) -> Vector:
    """Parameters as PyTorch begins with them: uniform within 1/√inputs."""
    rng = np.random.default_rng(seed)
    bounds = {name: 1 / np.sqrt(64) for name in LAYOUT.names}
    return LAYOUT.vector(
        {name: rng.uniform(-bounds[name], bounds[name], shape) for name, shape in LAYOUT.parts}
    )


def gradients(parameters: Arrays, pixels: np.ndarray, labels: np.ndarray) -> Arrays:
    """Of the mean cross-entropy."""
    hidden = np.maximum(pixels @ parameters["0.weight"] + parameters["0.bias"], 0)
    scores = hidden @ parameters["1.weight"] + parameters["1.bias"]
    scores = np.exp(scores - scores.max(1, keepdims=True))
    scores /= scores.sum(1, keepdims=True)
    scores[np.arange(len(labels)), labels] -= 1
    scores /= len(labels)
    back = (scores @ parameters["1.weight"].T) * (hidden > 0)
    return {
        "0.weight": pixels.T @ back,
        "0.bias": back.sum(0),
        "1.weight": hidden.T @ scores,
        "1.bias": scores.sum(0),
    }


def accuracy(vector: Vector) -> float:
    """On the test rows."""
    parameters, (pixels, labels) = LAYOUT.arrays(vector), digits()[1]
    hidden = np.maximum(pixels @ parameters["0.weight"] + parameters["0.bias"], 0)
    return float(((hidden @ parameters["1.weight"] + parameters["1.bias"]).argmax(1) == labels).mean())


class Device:
    """One of the twenty: its rows, under SCAFFOLD its control variate, and what compression left over."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.control = np.zeros(LAYOUT.size, np.float32)
        self.residual: Vector | None = None

    def update(
        self, given: Vector, state: State, rule: LocalRule, plan: Plan, rng: np.random.Generator
    ) -> Update:
        """Train from the given parameters, as the strategy's local rule has it."""
        own, start = LAYOUT.arrays(given.copy()), LAYOUT.arrays(given)
        names, steps = LAYOUT.names, 0
        server = state.get("control", np.zeros(LAYOUT.size, np.float32))
        controls = LAYOUT.arrays(np.asarray(server)), LAYOUT.arrays(self.control)
        for pixels, labels in self.batches(plan, rng):
            found = gradients(own, pixels, labels)
            listed = [found[name] for name in names]
            if rule.proximal:
                add_proximal(
                    listed, [own[name] for name in names], [start[name] for name in names], rule.proximal
                )
            if rule.control:
                add_control(listed, *([arrays[name] for name in names] for arrays in controls))
            for name in names:
                own[name][...] -= plan.learning_rate * found[name]
            steps += 1
        delta = LAYOUT.vector(own) - given
        if not rule.control:
            return self.handed_in(delta, LAYOUT, plan)
        new = new_control(self.control, np.asarray(server), delta, steps, plan.learning_rate)
        changed, self.control = new - self.control, new
        return self.handed_in(np.concatenate([delta, changed]), LAYOUT.with_control(), plan)

    def handed_in(self, vector: Vector, layout: Layout, plan: Plan) -> Update:
        """What the server reads out of the bytes that the device sends."""
        sent = compressed(vector, layout, plan.compression, self.residual)
        self.residual = sent.residual
        return read_update(
            sent.payload, LAYOUT, weight=float(len(self.rows[1])), control=layout is not LAYOUT
        )

    def batches(self, plan: Plan, rng: np.random.Generator) -> Iterator[Rows]:
        """The rows in batches, shuffled anew in each epoch."""
        pixels, labels = self.rows
        for _ in range(plan.epochs):
            order = rng.permutation(len(labels))
            for first in range(0, len(labels), plan.batch or len(labels)):
                part = order[first : first + (plan.batch or len(labels))]
                yield pixels[part], labels[part]


def learning(strategy: Strategy, plan: Plan, per_round: int = PER_ROUND) -> Iterator[float]:
    """The accuracy after each round, without end."""
    devices = [Device(rows) for rows in spread(plan.iid, plan.seed)]
    parameters = beginning(plan.seed)
    state: State = {}
    rng = np.random.default_rng(plan.seed)
    while True:
        drawn = sorted(rng.choice(DEVICES, per_round, replace=False))
        aggregation = strategy.begin(parameters, state)
        for n in drawn:
            aggregation.add(devices[n].update(parameters, state, strategy.local, plan, rng))
        outcome = aggregation.finish()
        parameters, state = outcome.parameters, outcome.state
        yield accuracy(parameters)


def rounds_to(bar: float, strategy: Strategy, plan: Plan, most: int) -> int | None:
    """After how many rounds the accuracy first reaches the bar; None: not within `most`, or it diverged."""
    with np.errstate(all="ignore"), suppress(UpdateInvalid):
        for number, reached in zip(range(1, most + 1), learning(strategy, plan), strict=False):
            if reached >= bar:
                return number
    return None


@cache
def best(epochs: int, batch: int | None, *, iid: bool, most: int = 150, bar: float = 0.95) -> int | None:
    """FedAvg's rounds at the best of three learning rates; a later rate need only beat the earlier ones."""
    found: int | None = None
    for rate in (0.3, 1.0, 0.1):
        plan = Plan(epochs, batch, rate, iid)
        found = rounds_to(bar, named("fedavg"), plan, (found or most + 1) - 1) or found
    return found
