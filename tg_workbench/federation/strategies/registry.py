"""Every strategy by its name. A file in this folder is found by being there."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import fields
from functools import cache
from typing import TypeVar

from tg_workbench.errors import InvalidField
from tg_workbench.federation.strategies.strategy import Strategy

_STRATEGIES: dict[str, type[Strategy]] = {}
Kind = TypeVar("Kind", bound=type[Strategy])


def strategy(kind: Kind) -> Kind:
    """Register a strategy under its own name."""
    if kind.name in _STRATEGIES:
        raise ValueError(f"there are two strategies called {kind.name}")
    _STRATEGIES[kind.name] = kind
    return kind


def names() -> tuple[str, ...]:
    """What there is, in the order of the alphabet."""
    return tuple(sorted(_found()))


def options(name: str) -> tuple[str, ...]:
    """The names of a strategy's options."""
    return tuple(field.name for field in fields(_kind(name)))  # type: ignore[arg-type]


def summary(name: str) -> str:
    """A strategy's words for whoever chooses."""
    return _kind(name).summary


def named(name: str, **chosen: object) -> Strategy:
    """The strategy of this name with these options. Raises InvalidField; it never says what was sent."""
    kind = _kind(name)
    known = options(name)
    if not chosen.keys() <= set(known):
        problem = f"{name} knows {', '.join(known)}" if known else f"{name} has none"
        raise InvalidField("strategy options", problem)
    return kind(**chosen)


def _kind(name: str) -> type[Strategy]:
    found = _found()
    if name not in found:
        raise InvalidField("strategy", f"use one of {', '.join(names())}")
    return found[name]


@cache
def _found() -> dict[str, type[Strategy]]:
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")
    return _STRATEGIES
