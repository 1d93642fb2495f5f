from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest
from tg_widgets import FederationPanel

from tests.widgets.conftest import Wire, wait_for
from tg_workbench import Workbench
from tg_workbench.sdk import Campaign
from tg_workbench.sdk.device import Device


@pytest.fixture
def panel(wire: Wire, workbench: Workbench, learned: Campaign) -> Iterator[FederationPanel]:
    """A panel on a page, about a campaign that is over."""
    panel = FederationPanel(learned)
    wire.say(panel.board, {"action": "ready"})
    wire.say(panel.curve, {"type": "ready"})
    wait_for(lambda: panel.board.shown["connection"] == "connected")
    yield panel
    panel.close()


@pytest.fixture
def endless(workbench: Workbench) -> Iterator[Campaign]:
    """A campaign that waits for more devices than there are."""
    campaign = workbench.federation.start("logistic", input_shape=[4], output_size=2, min_participants=9)
    yield campaign
    campaign.cancel()


def test_a_panel_opens_without_a_workbench_and_says_how_to_get_one(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("TG_")]:
        monkeypatch.delenv(name)
    panel = FederationPanel()
    wire.say(panel.board, {"action": "ready"})
    wait_for(lambda: panel.board.shown["connection"] == "unreachable")
    assert "make lab" in panel.board.shown["problem"]
    panel.close()


def test_making_a_panel_starts_nothing(wire: Wire, workbench: Workbench) -> None:
    before = set(threading.enumerate())
    FederationPanel(workbench=workbench).close()
    assert set(threading.enumerate()) <= before


def test_a_campaign_is_shown_with_its_rounds_its_devices_and_its_curve(
    wire: Wire, panel: FederationPanel, learned: Campaign, wards: tuple[Device, ...]
) -> None:
    shown = panel.board.shown
    assert (shown["campaign"]["name"], shown["campaign"]["status"]) == ("wards", "completed")
    assert [(row["number"], row["phase"], row["accepted"]) for row in shown["rounds"]] == [
        (1, "completed", 2),
        (2, "completed", 2),
    ]
    parts = {each["id"]: each["part"] for each in shown["devices"]}
    assert [parts[device.id] for device in wards] == ["accepted", "accepted"]
    assert shown["epsilon"] == {"kind": "none"}
    accuracies = [(each.number, each.progress.avg_accuracy) for each in learned.rounds()]
    assert panel.curve.points("accuracy") == accuracies
    assert panel.curve.note == "told by devices: not covered by ε"
    wait_for(lambda: len(wire.drawn(panel.curve, "moved")) == 2)


def test_the_newest_campaign_is_followed_and_cancelled_and_another_is_chosen(
    wire: Wire, workbench: Workbench, learned: Campaign, endless: Campaign
) -> None:
    panel = FederationPanel(workbench=workbench)
    board = panel.board
    wire.say(board, {"action": "ready"})
    wait_for(lambda: (board.shown["campaign"] or {}).get("id") == endless.id)
    wire.say(board, {"action": "cancel", "values": {"id": learned.id}})
    wire.say(board, {"action": "cancel", "values": {"id": endless.id}})
    wait_for(lambda: board.shown["campaign"]["status"] == "cancelled")
    assert board.shown["error"] == ""
    assert learned.status == "completed"
    board.campaign_id = learned.id
    wait_for(lambda: board.shown["campaign"]["id"] == learned.id)
    wait_for(lambda: len(panel.curve.points("accuracy")) == 2)
    board.campaign_id = endless.id
    wait_for(lambda: panel.curve.points("accuracy") == [])
    panel.close()


def test_a_campaign_that_is_not_there_is_said_to_be_gone(wire: Wire, workbench: Workbench) -> None:
    panel = FederationPanel("camp_00000000000000000000000000000000", workbench)
    wire.say(panel.board, {"action": "ready"})
    wait_for(lambda: panel.board.shown["connection"] == "gone")
    panel.close()


def test_a_published_panel_names_nobody_and_takes_no_orders(
    wire: Wire, workbench: Workbench, learned: Campaign, wards: tuple[Device, ...], endless: Campaign
) -> None:
    panel = FederationPanel(workbench=workbench, published=True)
    wire.say(panel.board, {"action": "ready"})
    wire.say(panel.curve, {"type": "ready"})
    wait_for(lambda: (panel.board.shown.get("campaign") or {}).get("id") == endless.id)
    wire.say(panel.board, {"action": "cancel", "values": {"id": endless.id}})
    panel.board.campaign_id = learned.id
    wait_for(lambda: panel.board.shown["campaign"]["id"] == learned.id)
    assert panel.curve.points("moved") == [], "it was learned without noise"
    assert endless.status == "active"
    said = wire.told(panel.board) + wire.told(panel.curve)
    measures = [(each.progress.avg_accuracy, each.progress.convergence_metric) for each in learned.rounds()]
    raw = [repr(value) for pair in measures for value in pair]
    assert not [word for word in ("ward 4", "dev_", "Accuracy", *raw) if word in said]
    panel.close()


def test_a_panel_that_is_shown_nowhere_asks_nothing(wire: Wire, workbench: Workbench) -> None:
    before = threading.active_count()
    panel = FederationPanel(workbench=workbench)
    wire.say(panel.board, {"action": "ready"})
    wait_for(lambda: panel.board.shown["connection"] == "connected")
    wire.say(panel.board, {"action": "gone"})
    wait_for(lambda: threading.active_count() <= before)
    panel.close()
