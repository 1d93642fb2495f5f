"""Notifications: telling people of what concerns them, in the workbench, by webhook or by e-mail.

    announce(session, notices)          whoever empties the outbox
    Inbox(session).list_page(owner)     what somebody was told

Pitfalls: preferences decide what one person gets, never what an organisation's webhooks hear. Raw figures of
protected data are in no notice, so they are in no notification; an e-mail holds less still (`letters`).
"""

from tg_workbench.notifications.announcing import announce
from tg_workbench.notifications.inbox import Inbox
from tg_workbench.notifications.postal_round import PostalRound
from tg_workbench.notifications.preferences import Channel, Kind, Preferences
from tg_workbench.notifications.tables import Mail, Notification, NotificationPreference

__all__ = [
    "Channel",
    "Inbox",
    "Kind",
    "Mail",
    "Notification",
    "NotificationPreference",
    "PostalRound",
    "Preferences",
    "announce",
]
