"""Provenance: what a model's weights have learned from, as far as a guarantee depends on it.

It travels with every checkpoint. An ε says nothing of rows that were learned from without privacy, and an ε
about rows says nothing about people who own several.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tg_workbench.errors import PrivacyRefused
from tg_workbench.training.plan import Plan

_UNPROTECTED = "has_unprotected_rows"
_UNITS = "units_of_privacy"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Whether the weights saw rows without privacy, and what their ε is about: `row`, `unit`, or both."""

    unprotected: bool = False
    units: frozenset[str] = frozenset()

    @classmethod
    def of_plan(cls, plan: Plan | None) -> Provenance:
        """Of weights that learned by this plan alone; None: nothing is known to have been learned from."""
        return cls(units=frozenset() if plan is None else frozenset({_what(plan)}))

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], lineage: Mapping[str, int]) -> Provenance:
        """As a checkpoint tells it. One of before there were units, but with charges, is about rows."""
        charged = any(newest > 0 for newest in lineage.values())
        units = metadata.get(_UNITS, ("row",) if charged else ())
        return cls(bool(metadata.get(_UNPROTECTED, False)), frozenset(units))

    def as_metadata(self) -> dict[str, Any]:
        """As a checkpoint is told."""
        return {_UNPROTECTED: self.unprotected, _UNITS: sorted(self.units)}

    def joined(self, other: Provenance) -> Provenance:
        """Of weights that learned from both."""
        return Provenance(self.unprotected or other.unprotected, self.units | other.units)

    def require_covered_by(self, plan: Plan | None) -> None:
        """Raise PrivacyRefused if the ε of a client with this plan would not cover these weights."""
        if plan is None:
            return
        if self.unprotected:
            raise PrivacyRefused(
                "this checkpoint learned from rows without differential privacy, and no ε would cover them: "
                "load it into a client without dp_config"
            )
        if not self.units <= {_what(plan)}:
            told = "each row by itself" if _what(plan) == "unit" else "units that own several rows"
            raise PrivacyRefused(
                f"this checkpoint's ε is about {told}, and this client's is about each {plan.unit_name}: no "
                "one number would be true of both"
            )


def _what(plan: Plan) -> str:
    return "unit" if plan.unit == "unit" else "row"
