"""Preferences: which kind of notification reaches somebody by which channel.

They decide what one person gets. An organisation's webhooks are the organisation's, and hear of everything
whatever its members prefer; `webhook` means those that somebody has made for themselves (`personal`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum

from sqlmodel import Session, col, select

from tg_workbench.errors import MailUnavailable
from tg_workbench.identity import Memberships, Principal
from tg_workbench.notifications.tables import NotificationPreference


class Channel(StrEnum):
    """A way to reach somebody."""

    IN_APP = "in_app"
    WEBHOOK = "webhook"
    EMAIL = "email"


class Kind(StrEnum):
    """What somebody can be told of: the documents' events about what is theirs, and a budget near its cap."""

    TRAINING_STARTED = "training.started"
    TRAINING_PROGRESS = "training.progress"
    TRAINING_COMPLETED = "training.completed"
    TRAINING_FAILED = "training.failed"
    DATASET_PROCESSED = "dataset.processed"
    BUDGET_NEAR_CAP = "privacy.budget_near_cap"
    SECURITY_ALERT = "security.alert"


_QUIET = (Kind.TRAINING_STARTED, Kind.TRAINING_PROGRESS)
DEFAULTS: Mapping[str, frozenset[str]] = {
    kind: frozenset({Channel.WEBHOOK} if kind in _QUIET else {Channel.IN_APP, Channel.WEBHOOK})
    for kind in Kind
}
"""Of a run, how it ended is worth a notification; that it goes on is seen where it is watched."""


class Preferences:
    """What people want to hear of. `can_mail`: whether e-mail can be sent here."""

    def __init__(self, session: Session, *, can_mail: bool = False) -> None:
        self.session = session
        self.can_mail = can_mail

    def of(self, owner_id: str) -> dict[str, frozenset[str]]:
        """The channels of every kind."""
        return self.of_each([owner_id])[owner_id]

    def of_each(self, owner_ids: Collection[str]) -> dict[str, dict[str, frozenset[str]]]:
        """The same for several people."""
        found = {owner_id: dict(DEFAULTS) for owner_id in owner_ids}
        query = select(NotificationPreference).where(col(NotificationPreference.owner_id).in_(owner_ids))
        for row in self.session.exec(query):
            found[row.owner_id][row.kind] = frozenset(row.channels)
        return found

    def change(self, owner: Principal, wanted: Mapping[str, Collection[str]]) -> None:
        """Set the channels of the kinds that `wanted` names. Raises MailUnavailable."""
        if any(Channel.EMAIL in channels for channels in wanted.values()):
            self._check_mail(owner)
        for kind, channels in wanted.items():
            row = NotificationPreference(
                owner_id=owner.id, kind=kind, channels=[one.value for one in Channel if one in channels]
            )
            self.session.merge(row)
        self.session.flush()

    def _check_mail(self, owner: Principal) -> None:
        if not self.can_mail:
            raise MailUnavailable(is_configured=False)
        if Memberships(self.session).address_of(owner.id) is None:
            raise MailUnavailable(is_configured=True)
