"""What can go wrong with telling others: webhooks, alerts, notifications."""

from __future__ import annotations

from tg_workbench.errors.families import InvalidRequest, NotFound, Refused


class WebhookNotFound(NotFound):
    """No webhook subscription has this id."""

    def __init__(self) -> None:
        super().__init__("there is no webhook with this id")


class DeliveryNotFound(NotFound):
    """No delivery of a webhook has this id."""

    def __init__(self) -> None:
        super().__init__("there is no delivery with this id")


class TooManyWebhooks(Refused):
    """An organisation has as many webhooks as it may have."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"there are {limit} webhooks already, and no more are kept; delete one first")
        self.limit = limit


class AlertNotFound(NotFound):
    """No alert has this id."""

    def __init__(self) -> None:
        super().__init__("there is no alert with this id")


class AlertRuleNotFound(NotFound):
    """No rule of alerts has this name."""

    def __init__(self) -> None:
        super().__init__("there is no alert rule of this name")


class NotificationNotFound(NotFound):
    """No notification of yours has this id."""

    def __init__(self) -> None:
        super().__init__("there is no notification with this id")


class MailUnavailable(InvalidRequest):
    """E-mail was chosen where none can be sent."""

    def __init__(self, *, is_configured: bool) -> None:
        super().__init__(
            "your account has no e-mail address: choose in_app or webhook"
            if is_configured
            else "this workbench sends no e-mail: its operator sets TG_SMTP_URL and TG_SMTP_FROM"
        )
