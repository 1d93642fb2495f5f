"""A federation as it learns: devices by status, the rounds of a campaign, who takes part, ε, and the curve.

It follows the newest campaign, or the one it is given. Showing it starts nothing.

Pitfalls: what devices say of their own accuracy is not covered by ε, nor is how far a round without noise
moves the model; and devices' names tell of their owners. On a page for others use `published=True`, which
never sends any of it, nor reasons, and offers no buttons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ipywidgets
import traitlets

from tg_widgets import assets
from tg_widgets.federation_face import (
    MOST_DEVICES,
    NOT_COVERED,
    STATUSES,
    SeenFederation,
    face_of,
)
from tg_widgets.live_card import LiveCard
from tg_widgets.live_curve import LiveCurve, Series
from tg_workbench.errors import NotFound
from tg_workbench.sdk import Campaign, Workbench
from tg_workbench.sdk.campaign_views import CampaignView, RoundView
from tg_workbench.sdk.connection import Connection
from tg_workbench.sdk.devices import Devices
from tg_workbench.sdk.federation import Federation

SECONDS_WHILE_ACTIVE, SECONDS_WHILE_QUIET = 1.5, 8.0
MOST_CAMPAIGNS = 20
_EMPTY = "No round has been completed yet."
_EMPTY_PUBLISHED = "No private round has been completed yet, and ε covers no others."
Take = Callable[[CampaignView | None], None]


class FederationBoard(LiveCard):
    """The panel without its curve: devices, campaign, rounds. `take` gets the campaign after each look."""

    _esm = assets.script("federation_board")
    _css = assets.style("live_card.css", "federation_board.css")

    campaign_id = traitlets.Unicode().tag(sync=True)
    """The campaign that is shown; empty: always the newest."""

    def __init__(
        self,
        source: Workbench | Campaign | None,
        campaign_id: str,
        take: Take,
        *,
        published: bool = False,
        title: str = "Federation",
    ) -> None:
        self.published = published
        self._title = title
        self._take = take
        self._seen = SeenFederation()
        self._followed: tuple[Connection, Campaign] | None = None
        super().__init__(source, campaign_id=campaign_id)

    @property
    def seen(self) -> SeenFederation:
        """What it saw last."""
        return self._seen

    @traitlets.observe("campaign_id")
    def _choose(self, _change: Mapping[str, Any]) -> None:
        if hasattr(self, "_watch"):
            self._watch.look_now()

    def _look(self, connection: Connection) -> float:
        federation, devices = Federation(connection), Devices(connection)
        listed = federation.list(limit=MOST_CAMPAIGNS)
        chosen = self.campaign_id or (listed[0].id if listed else "")
        campaign = self._campaign(federation, connection, chosen) if chosen else None
        newest = campaign.history[-1] if campaign is not None and campaign.history else None
        seen = SeenFederation(
            devices=() if self.published else devices.list(size=MOST_DEVICES),
            counts={status: devices.count(status=status) for status in STATUSES},
            campaigns=[each.view for each in listed],
            campaign=campaign,
            parts=() if newest is None or self.published else federation.participations(newest),
        )
        with self._lock:
            self._seen = seen
        self._take(campaign)
        is_active = campaign is not None and not campaign.is_over
        return SECONDS_WHILE_ACTIVE if is_active else SECONDS_WHILE_QUIET

    def _campaign(self, federation: Federation, connection: Connection, chosen: str) -> CampaignView:
        """The campaign with all its rounds; those that it had at the last look are not asked for again."""
        if self._followed is None or self._followed[0] is not connection or self._followed[1].id != chosen:
            self._followed = (connection, federation.get(chosen))
        campaign = self._followed[1]
        rounds = campaign.rounds()
        return replace(campaign.view, history=rounds)

    def _face(self) -> Mapping[str, Any]:
        return {"title": self._title, **face_of(self._seen, published=self.published)}

    def _allows(self, action: str, values: Mapping[str, Any]) -> bool:
        campaign = self._seen.campaign
        return (
            action == "cancel"
            and not self.published
            and campaign is not None
            and not campaign.is_over
            and values.get("id") == campaign.id
        )

    def _ask(self, action: str, values: Mapping[str, Any], connection: Connection) -> None:
        try:
            Federation(connection).get(str(values.get("id"))).cancel()
        except NotFound:  # somebody else was quicker
            return


class FederationPanel(ipywidgets.VBox):  # type: ignore[misc]
    """Follows a federation. `campaign` None: always the newest; `workbench` None: the notebook's own.

    `published` is for dashboards: no names, no buttons, and nothing that ε does not cover. `board` and
    `curve` are the widgets inside.
    """

    def __init__(
        self,
        campaign: Campaign | str | None = None,
        workbench: Workbench | None = None,
        *,
        published: bool = False,
        title: str = "Federation",
    ) -> None:
        self._published = published
        self._drawn = ("", 0)
        accuracy = Series("accuracy", "Accuracy, as devices say")
        moved = Series("moved", "How far a round moves the model")
        epsilon = Series("epsilon", "ε spent", "right", digits=2, round_up=True)
        self.curve = LiveCurve(
            [moved, epsilon] if published else [accuracy, moved, epsilon],
            title="Convergence" if published else "Learning",
            x_label="round",
            height=240,
        )
        self.curve.empty_text = _EMPTY_PUBLISHED if published else _EMPTY
        source = campaign if isinstance(campaign, Campaign) and workbench is None else workbench
        chosen = campaign.id if isinstance(campaign, Campaign) else campaign or ""
        self.board = FederationBoard(source, chosen, self._draw, published=published, title=title)
        super().__init__([self.board, self.curve])
        self.add_class("tgw-panel")

    def close(self) -> None:
        """Stop looking and close the widgets. The devices learn on."""
        self.board.close()
        self.curve.close()
        super().close()

    def _draw(self, campaign: CampaignView | None) -> None:
        """Add the rounds that were completed since the last look; another campaign begins a curve anew."""
        campaign_id = "" if campaign is None else campaign.id
        if campaign_id != self._drawn[0]:
            self.curve.clear()
            self._drawn = (campaign_id, 0)
        done = [] if campaign is None else [each for each in campaign.history if each.phase == "completed"]
        new = [each for each in done if each.number > self._drawn[1]]
        shown = [each for each in new if each.epsilon is not None] if self._published else new
        for name, points in _points(shown).items():
            if points and (name != "accuracy" or not self._published):
                self.curve.append(name, [x for x, _ in points], [y for _, y in points])
        if new:
            self._drawn = (campaign_id, new[-1].number)
        is_told = not self._published and bool(self.curve.points("accuracy"))
        self.curve.note = NOT_COVERED if is_told else ""


def _points(rounds: Sequence[RoundView]) -> dict[str, list[tuple[int, float]]]:
    told = {
        "accuracy": [(each.number, each.progress.avg_accuracy) for each in rounds],
        "moved": [(each.number, each.progress.convergence_metric) for each in rounds],
        "epsilon": [(each.number, each.epsilon) for each in rounds],
    }
    return {name: [(x, y) for x, y in points if y is not None] for name, points in told.items()}
