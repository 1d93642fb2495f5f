"""Flower's strategies on a workbench that has no Flower: refused at the door, with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from tests.federation.conftest import CLASSES, SIDE
from tests.workbench_server import WorkbenchServer
from tg_workbench.errors import PrivacyRefused
from tg_workbench.federation.fleets import PrivacySettings
from tg_workbench.federation.rounds.campaigns import check
from tg_workbench.federation.rounds.specs import CampaignSpec


def test_a_workbench_without_flower_says_how_to_get_it() -> None:
    model: dict[str, Any] = {"architecture": "logistic", "input_shape": [SIDE], "output_size": CLASSES}
    body = {"model_config": model, "strategy": "flower:FedYogi"}
    server = WorkbenchServer(TG_FLOWER_PYTHON="")
    try:
        with server.client() as http:
            answer = http.post("/api/v1/fl/rounds", json=body)
    finally:
        server.stop()
    assert answer.status_code in (400, 422)
    assert "TG_FLOWER_PYTHON" in answer.text


def test_flower_sees_no_update_that_is_promised_to_be_private() -> None:
    private = PrivacySettings(differential_privacy=True)
    with pytest.raises(PrivacyRefused):
        check(CampaignSpec(architecture="logistic", strategy="flower:FedAvg", privacy=private))
