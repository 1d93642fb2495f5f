"""Policies: what is asked of a dataset's privacy, and what it comes to beside others about the same people.

One population has one unit of privacy, one δ and one cap, or what is spent on it would not add up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from tg_workbench.datasets.tables import Dataset
from tg_workbench.errors import InvalidRequest, PrivacyRefused

DEFAULT_EPSILON_CAP = 10.0
NEW = "new"
"""Said for a population: other people than those of the versions before it."""
Because = Literal["new", "named", "same_rows", "same_name"]
"""Why a dataset is in its population."""
_WAY_OUT = '. Or, if these are other people than those of the version before, say so: population "new"'


@dataclass(frozen=True, slots=True)
class Kin:
    """A protected dataset about the same people, and how that is known."""

    dataset: Dataset
    because: Because

    @property
    def way_out(self) -> str:
        """What else can be done where the two do not go together."""
        return _WAY_OUT if self.because == "same_name" else ""


class Policy(Protocol):
    """What is asked of a dataset's privacy."""

    @property
    def privacy(self) -> str: ...  # noqa: D102
    @property
    def delta(self) -> float | None: ...  # noqa: D102
    @property
    def epsilon_cap(self) -> float | None: ...  # noqa: D102
    @property
    def population(self) -> str | None: ...  # noqa: D102
    @property
    def unit(self) -> str | None: ...  # noqa: D102


def check_policy(asked: Policy) -> None:
    """What can be said of a policy before the rows are known. Raises InvalidRequest."""
    if asked.privacy not in ("protected", "public"):
        raise InvalidRequest("privacy must be 'protected' or 'public'")
    if asked.delta is not None and not 0 < asked.delta < 1:
        raise InvalidRequest("delta must lie between 0 and 1")
    if asked.epsilon_cap is not None:
        _cap(asked.epsilon_cap, None)


def settled(asked: Policy, rows: int, units: int | None, kin: Kin | None) -> tuple[str, float, float]:
    """The unit, δ and cap of a dataset of so many rows. Raises InvalidRequest, PrivacyRefused."""
    return _unit(asked, units, kin), _delta(asked.delta, units or rows, kin), _cap(asked.epsilon_cap, kin)


def with_same_unit(kin: Kin, units: int | None) -> Kin:
    """The same. Raises PrivacyRefused where the one knows units and the other does not."""
    known = kin.dataset
    if (known.units is None) != (units is None):
        raise PrivacyRefused(
            f"one budget is about one unit of privacy: that of dataset {known.id}{_as_before(kin)} is the "
            f"{known.unit}. "
            + ("Give unit_ids" if known.units is not None else "Leave unit_ids out")
            + kin.way_out
        )
    return kin


def _as_before(kin: Kin) -> str:
    return ", the version before," if kin.because == "same_name" else ""


def _unit(asked: Policy, units: int | None, kin: Kin | None) -> str:
    """What ε is about, in a word: that of the same people's other datasets. Raises InvalidRequest."""
    if units is None and asked.unit not in (None, "example"):
        raise InvalidRequest("a unit needs unit_ids: they say which rows are about the same one")
    if kin is None:
        return "example" if units is None else asked.unit or "unit"
    known = kin.dataset
    if asked.unit not in (None, known.unit):
        raise PrivacyRefused(
            f"one budget is about one unit of privacy: that of dataset {known.id}{_as_before(kin)} is the "
            f"{known.unit}, as it was called then. Leave unit out, or call it so{kin.way_out}"
        )
    return known.unit


def _delta(asked: float | None, size: int, kin: Kin | None) -> float:
    if kin is not None:
        return _known_delta(asked, size, kin)
    delta = min(1e-5, size**-1.1) if asked is None else asked
    if not 0 < delta < 1 or (asked is not None and asked >= 1 / size):
        raise InvalidRequest(f"delta must lie above 0 and below 1/N = {1 / size:.2g}")
    return delta


def _known_delta(asked: float | None, size: int, kin: Kin) -> float:
    """That of the same people's other datasets. Raises InvalidRequest."""
    known = kin.dataset
    if asked not in (None, known.delta):
        raise InvalidRequest(
            "delta is fixed for the people these rows are about, so that what is spent adds up: leave it out "
            f"or give {known.delta:g}, as for dataset {known.id}{_as_before(kin).rstrip(',')}{kin.way_out}"
        )
    if known.delta >= 1 / size:
        raise InvalidRequest(
            f"the population's delta, {known.delta:g}, as for dataset {known.id}, is not below "
            f"1/N = {1 / size:.2g}: leave rows out{kin.way_out}"
        )
    return known.delta


def _cap(asked: float | None, kin: Kin | None) -> float:
    if asked is None:
        return kin.dataset.epsilon_cap if kin is not None else DEFAULT_EPSILON_CAP
    if kin is not None and asked < kin.dataset.epsilon_cap:
        raise InvalidRequest(
            f"epsilon_cap can only be raised: it is {kin.dataset.epsilon_cap:g} for the people these rows "
            f"are about, from dataset {kin.dataset.id}: leave it out{kin.way_out}"
        )
    if not 0 < asked <= 1000:
        raise InvalidRequest("epsilon_cap must lie between 0 and 1000")
    return asked
