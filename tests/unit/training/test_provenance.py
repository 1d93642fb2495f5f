"""What a checkpoint says of its weights decides which guarantees may cover them."""

from __future__ import annotations

import pytest

from tests.unit.training.test_budget import plan
from tg_workbench.errors import PrivacyRefused
from tg_workbench.training.provenance import Provenance

BY_ROW, BY_UNIT = plan(), plan(unit="unit", unit_name="patient")


def told(provenance: Provenance, lineage: dict[str, int]) -> Provenance:
    return Provenance.from_metadata(provenance.as_metadata(), lineage)


def test_it_is_the_same_after_a_checkpoint() -> None:
    known = Provenance.of_plan(BY_UNIT).joined(Provenance(unprotected=True))
    assert told(known, {"tc-1": 3}) == known


@pytest.mark.parametrize(("made_by", "asked_by"), [(BY_ROW, BY_UNIT), (BY_UNIT, BY_ROW)])
def test_epsilon_about_rows_covers_no_people_and_the_other_way_round(
    made_by: object, asked_by: object
) -> None:
    weights = Provenance.of_plan(made_by)  # type: ignore[arg-type]
    weights.require_covered_by(made_by)  # type: ignore[arg-type]
    weights.require_covered_by(None)
    with pytest.raises(PrivacyRefused, match="no one number would be true of both"):
        weights.require_covered_by(asked_by)  # type: ignore[arg-type]


def test_a_checkpoint_of_before_there_were_units_is_about_rows_if_it_was_charged_for() -> None:
    Provenance.from_metadata({}, {}).require_covered_by(BY_UNIT)
    with pytest.raises(PrivacyRefused, match="each row by itself"):
        Provenance.from_metadata({}, {"tc-1": 7}).require_covered_by(BY_UNIT)


def test_weights_that_saw_rows_without_privacy_are_covered_by_nothing() -> None:
    with pytest.raises(PrivacyRefused, match="no ε would cover them"):
        Provenance(unprotected=True).require_covered_by(BY_ROW)
