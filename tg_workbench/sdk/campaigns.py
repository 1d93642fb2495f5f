"""A campaign: one model that devices learn together, in one round or in many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from tg_workbench.errors import CampaignFailed, DeadlineExceeded, InvalidRequest
from tg_workbench.sdk.campaign_views import CampaignView, Participation, RoundView
from tg_workbench.sdk.connection import Connection
from tg_workbench.sdk.followed import Followed
from tg_workbench.sdk.models import Model
from tg_workbench.sdk.registry import Models

CAMPAIGNS, PARTICIPATIONS = "/workbench/v1/federation/campaigns", "/workbench/v1/federation/rounds"


class Campaign(Followed[CampaignView]):
    """One campaign. `status` and `rounds()` ask each time; `view` is the last that was told.

    It goes on when this kernel ends: `wb.federation[id]` finds it again.
    """

    def __init__(self, connection: Connection, view: CampaignView) -> None:
        super().__init__(connection, view)
        self._over: dict[int, RoundView] = {}
        """The rounds that are over, by number: they stay as they are, and are asked for once."""

    def refresh(self) -> CampaignView:
        """Ask the workbench how it stands. Raises CampaignNotFound, CallFailed."""
        self._view = self._seen(0)
        return self._view

    @property
    def status(self) -> str:
        """active, completed, failed or cancelled."""
        return self.refresh().status

    def rounds(self) -> Sequence[RoundView]:
        """Its rounds so far, in order. Asks for what it does not know yet, some at a time."""
        view = self.refresh()
        page, found = view.history, {**self._over, **{each.number: each for each in view.history}}
        offset = len(page)
        while page and offset < view.rounds_begun and page[0].number - 1 not in self._over:
            page = self._seen(offset).history
            offset += len(page)
            found.update((each.number, each) for each in page)
        self._over = {number: each for number, each in found.items() if each.is_over}
        return [found[number] for number in sorted(found)]

    def participations(self, round: RoundView | str | int | None = None) -> list[Participation]:
        """Each device's part in a round: given whole, by its id or number, or else the newest.

        Raises RoundNotFound.
        """
        round_id = round.id if isinstance(round, RoundView) else round
        if not isinstance(round_id, str):
            round_id = self._numbered(round_id)
        return participations_in(self._connection, round_id)

    @property
    def model(self) -> Model | None:
        """What it has come to, after its last round; None before, and when it came to none."""
        model_id = self._view.model_id or self.refresh().model_id
        return None if model_id is None else Models(self._connection)[model_id]

    def wait(self, timeout: float | None = None, *, progress: bool = True) -> Self:
        """Wait for its end, with a bar, and return it; one that was cancelled has no model.

        Raises CampaignFailed with the reason, and DeadlineExceeded after `timeout` seconds (it goes on).
        """
        return super().wait(timeout, progress=progress)

    def cancel(self) -> CampaignView:
        """End it now. The rounds that are done stay; devices that learn for it learn for nothing.

        For its owner, and for administrators. Raises PermissionDenied.
        """
        self._connection.delete(f"{CAMPAIGNS}/{self.id}")
        return self.refresh()

    def _seen(self, offset: int) -> CampaignView:
        """The campaign now, with its newest rounds but for the last `offset`."""
        return CampaignView.from_wire(self._connection.get(f"{CAMPAIGNS}/{self.id}", {"offset": offset}))

    def _numbered(self, number: int | None) -> str:
        known = self.rounds()
        if number is None and known:
            return known[-1].id
        found = [each.id for each in known if each.number == number]
        if not found:
            raise InvalidRequest(f"this campaign has had {len(known)} rounds, the first is number 1")
        return found[0]

    def _goes_on(self) -> DeadlineExceeded:
        return DeadlineExceeded(self.id, f"campaign {self.name} goes on: {self._view.moment}")

    def _require_good_end(self) -> None:
        if self._view.status == "failed":
            raise CampaignFailed(self.id, self._view.reason)

    def __repr__(self) -> str:
        """What it is and where it last stood; asks nobody."""
        return f"<Campaign {self.name}: {self._view.moment}, {self.id}>"


def participations_in(connection: Connection, round_id: str) -> list[Participation]:
    """Each device's part in a round, in the order they joined. Raises RoundNotFound."""
    answer = connection.get(f"{PARTICIPATIONS}/{round_id}/participations")
    return [Participation.from_wire(each) for each in answer.get("participations", [])]
