"""When one phase follows another, in rounds that wait for their devices and in buffers that do not."""

from __future__ import annotations

import pytest

from tg_workbench.federation.rounds.phases import Counts, Phase, Turn, next_turn
from tg_workbench.federation.rounds.specs import CampaignSpec, Criteria

CRITERIA = Criteria(min_participants=2, target_participants=3)


def after_training(counts: Counts, *, is_due: bool = False, is_open: bool = True) -> Phase | None:
    turn = next_turn(Phase.TRAINING, CRITERIA, counts, is_due=is_due, is_open=is_open)
    return None if turn is None else turn.phase


@pytest.mark.parametrize("counts", [Counts(), Counts(accepted=2), Counts(rejected=5)])
def test_a_buffer_that_is_not_full_waits_for_whoever_may_come(counts: Counts) -> None:
    assert after_training(counts) is None


def test_a_round_that_nobody_can_join_any_more_does_not_wait() -> None:
    assert after_training(Counts(accepted=2), is_open=False) is Phase.AGGREGATING
    assert after_training(Counts(accepted=1), is_open=False) is Phase.FAILED


def test_a_full_buffer_waits_for_nobody() -> None:
    assert after_training(Counts(accepted=3, joined=4, submitted=2)) is Phase.AGGREGATING


def test_at_its_deadline_a_buffer_is_aggregated_with_a_quorum_or_fails() -> None:
    assert after_training(Counts(accepted=2, joined=1), is_due=True) is Phase.AGGREGATING
    assert after_training(Counts(accepted=2, submitted=1), is_due=True) is None
    told = "1 updates were accepted, and 2 are needed: 0 were rejected, 4 never came"
    turn = next_turn(Phase.TRAINING, CRITERIA, Counts(accepted=1, joined=4), is_due=True, is_open=True)
    assert turn == Turn(Phase.FAILED, told)


def test_fedbuff_alone_is_asynchronous() -> None:
    assert CampaignSpec(architecture="mlp").max_staleness is None
    spec = CampaignSpec(architecture="mlp", strategy="fedbuff", strategy_options={"max_staleness": 0})
    assert (spec.is_asynchronous, spec.max_staleness) == (True, 0)
    assert not CampaignSpec(architecture="mlp", strategy="flower:FedAvg").is_asynchronous
