"""What can go wrong where devices learn together: campaigns, rounds, updates."""

from __future__ import annotations

from tg_workbench.errors.families import InvalidRequest, NotFound, Refused, WorkbenchError


class CampaignNotFound(NotFound):
    """There is no such campaign, or it is another organisation's."""

    def __init__(self) -> None:
        super().__init__("there is no such campaign")


class CampaignFailed(WorkbenchError):
    """A campaign of devices that was waited for came to no end. `reason` says why."""

    def __init__(self, campaign_id: str, reason: str | None) -> None:
        super().__init__(f"campaign {campaign_id} failed: {reason or 'it does not say why'}")
        self.campaign_id = campaign_id
        self.reason = reason


class RoundNotFound(NotFound):
    """There is no such round, or it is another organisation's, or this device takes no part in it."""

    def __init__(self) -> None:
        super().__init__("there is no such round, or this device takes no part in it")


class RoundNotOpen(Refused):
    """A round takes nobody, or nothing, in the phase it is in; or not this device now: `reason` says why."""

    def __init__(self, round_id: str, phase: str, reason: str | None = None) -> None:
        super().__init__(
            reason
            or f"this round is {phase}: devices join while it is recruiting (or training, where updates are "
            "buffered) and submit while it is training"
        )
        self.round_id = round_id
        self.phase = phase


class DeviceUnfit(Refused):
    """A device has not what a round asks for. `reason` says what."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UpdateInvalid(InvalidRequest):
    """A device's update that cannot be read or believed; the reason never says what stands in it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UpdateAlreadySubmitted(Refused):
    """A device has submitted another update for a round before; the first one counts."""

    def __init__(self, round_id: str) -> None:
        super().__init__("this device has submitted another update for this round: the first one counts")
        self.round_id = round_id


class UpdateRejected(Refused):
    """A device's update was opened and found to be of no use. `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this update was rejected, and the round goes on without it: {reason}")
        self.reason = reason


class TooFewUpdates(Refused):
    """Fewer updates than the strategy of a round can make a model of."""

    def __init__(self, have: int, need: int, because: str | None = None) -> None:
        why = f": {because}" if because else ""
        super().__init__(f"there are {have} updates, and the strategy takes {need} or more{why}")
        self.have, self.need = have, need


class SecureAggregationRefused(Refused):
    """A step of secure aggregation that would break its promise, or cannot be right. `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"secure aggregation goes no further: {reason}")
        self.reason = reason


class SharesUnfit(SecureAggregationRefused):
    """What a device had sealed for the others does not fit together, so a sum under its masks is lost."""

    def __init__(self, device_id: str, what: str) -> None:
        super().__init__(f"what {device_id} had sealed {what}")
        self.device_id = device_id


class TooFewSurvivors(SecureAggregationRefused):
    """Too many devices have dropped out: what is left cannot be, or must not be, put together."""

    def __init__(self, *, present: int, needed: int) -> None:
        super().__init__(f"devices that are left: {present}, that are needed: {needed}")
        self.present = present
        self.needed = needed
