"""What a caller may leave out means what the document says, and a typo never means less privacy."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tg_workbench.contracts.futures import _seconds_in
from tg_workbench.contracts.tg_tinker.schemas import CreateTrainingClient, ForwardBackward
from tg_workbench.identity import SCOPES
from tg_workbench.training import DPSpec


def dp_of(dp: dict[str, Any], **more: Any) -> DPSpec:
    spec = CreateTrainingClient.model_validate({"model_ref": "mlp", "dp_config": dp, **more}).as_spec().dp
    assert spec is not None
    return spec


def test_an_empty_dp_config_means_the_documents_defaults() -> None:
    assert dp_of({}) == DPSpec(True, 1.0, 1.0, 8.0, None, "prv")


def test_noise_is_calibrated_when_it_is_null_or_only_epsilon_is_given() -> None:
    assert dp_of({"noise_multiplier": None}).noise_multiplier is None
    assert dp_of({"target_epsilon": 3.0}, max_steps=100).noise_multiplier is None
    assert dp_of({"target_epsilon": 3.0}, dataset_id="ds-1").noise_multiplier is None
    assert dp_of({"target_epsilon": 3.0}).noise_multiplier == 1.0
    assert dp_of({"target_epsilon": 3.0, "noise_multiplier": 2.0}, max_steps=100).noise_multiplier == 2.0


@pytest.mark.parametrize(
    "body",
    [
        {"dp_conifg": {}},
        {"dp_config": {"noise_multiplyer": 1.0}},
        {"dp_config": {"enabled": "false"}},
        {"dp_config": {"noise_multiplier": float("nan")}},
        {"dp_config": {"target_epsilon": float("inf")}},
    ],
    ids=str,
)
def test_a_typo_does_not_weaken_privacy(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CreateTrainingClient.model_validate({"model_ref": "mlp", **body})


def test_a_documents_own_extras_are_taken_where_they_do_no_harm() -> None:
    body = {"model_ref": "mlp", "lora_config": {"rank": 4, "init": "gaussian"}}
    spec = CreateTrainingClient.model_validate(body).as_spec()
    assert spec.lora is not None
    assert spec.lora.rank == 4


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"batch": {"features": [[1]], "targets": [1]}, "dataset_id": "ds-1"},
        {"batch": {"features": [[1]]}},
        {"batch": {"features": [[1]], "input_ids": [[1]]}},
    ],
    ids=str,
)
def test_rows_have_one_source(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ForwardBackward.model_validate(body)


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, None),
        ("", None),
        ("respond-async", None),
        ("wait=10", 10),
        ("respond-async, wait=5", 5),
        ('wait="7"', 7),
        ("Wait=3", 3),
        ("wait=3600", 60),
        ("await=3", None),
        ("wait=-3", None),
    ],
)
def test_a_preference_is_read_as_rfc_7240_has_it(prefer: str | None, seconds: float | None) -> None:
    assert _seconds_in(prefer) == seconds


def test_the_commands_scopes_are_the_rooms() -> None:
    from tg_workbench.__main__ import SCOPES as OF_THE_COMMAND

    assert OF_THE_COMMAND == SCOPES
