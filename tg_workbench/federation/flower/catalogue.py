"""Which of Flower's strategies there are here, with their options: those that need updates and weights alone.

Left out are QFedAvg (it wants each device's loss), those for trees (FedXgb…), and the wrappers that add
noise, which our ledger could not count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tg_workbench.errors import InvalidField
from tg_workbench.federation.strategies.strategy import is_count, is_number

PREFIX = "flower:"
Fits = Callable[[object], bool]
"""Whether a value will do."""


def _rate(value: object) -> bool:
    return is_number(value, 1e-9, 1e3)


def _decay(value: object) -> bool:
    return is_number(value, 0.0, 0.999999)


def _pull(value: object) -> bool:
    return is_number(value, 0.0, 1e3)


def _cut(value: object) -> bool:
    return is_number(value, 0.0, 0.499999)


def _devices(value: object) -> bool:
    return is_count(value, 0, 100_000)


ADAPTIVE: Mapping[str, Fits] = {"eta": _rate, "eta_l": _rate, "tau": _rate}
MOMENTS: Mapping[str, Fits] = {**ADAPTIVE, "beta_1": _decay, "beta_2": _decay}
STRATEGIES: Mapping[str, Mapping[str, Fits]] = {
    "Bulyan": {"num_malicious_nodes": _devices},
    "FedAdagrad": ADAPTIVE,
    "FedAdam": MOMENTS,
    "FedAvg": {},
    "FedAvgM": {"server_learning_rate": _rate, "server_momentum": _decay},
    "FedMedian": {},
    "FedProx": {"proximal_mu": _pull},
    "FedTrimmedAvg": {"beta": _cut},
    "FedYogi": MOMENTS,
    "Krum": {"num_malicious_nodes": _devices},
    "MultiKrum": {"num_malicious_nodes": _devices, "num_nodes_to_select": _devices},
}
"""Flower's own names, of its classes and of their options."""


def is_flower(name: str) -> bool:
    """Whether this is the name of one of Flower's strategies, or is meant to be."""
    return name.startswith(PREFIX)


def flower_names() -> tuple[str, ...]:
    """What there is, as rounds are asked for it."""
    return tuple(PREFIX + name for name in sorted(STRATEGIES))


def check(name: str, options: Mapping[str, object]) -> None:
    """Raise InvalidField for a strategy, an option or a value that will not do; never say what was sent."""
    known = STRATEGIES.get(name.removeprefix(PREFIX))
    if known is None:
        raise InvalidField("strategy", f"of Flower's, use one of {', '.join(flower_names())}")
    if not options.keys() <= known.keys():
        problem = f"it knows {', '.join(known)}" if known else "it has none"
        raise InvalidField("strategy options", problem)
    for option, fits in known.items():
        if option in options and not fits(options[option]):
            raise InvalidField(f"strategy options.{option}", "it is not a number that will do")
