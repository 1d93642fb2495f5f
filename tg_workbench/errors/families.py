"""The families: what an error is to whoever asked, whatever it is about."""

from __future__ import annotations

from typing import Any


class WorkbenchError(Exception):
    """The root: every error this product raises on purpose."""

    @property
    def details(self) -> dict[str, Any]:
        """The facts, fit for JSON. Never holds a request's own values."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def as_record(self) -> dict[str, Any]:
        """The error as it is stored with a failed operation, fit for JSON."""
        return {"type": type(self).__name__, "message": str(self), "details": self.details}


class Unauthenticated(WorkbenchError):
    """No credential was sent, or it is unknown, expired or revoked."""

    def __init__(
        self,
        message: str = "sign in and send your token as 'Authorization: Bearer …', or an API key as "
        "'Authorization: Bearer tgw-…' or 'X-API-Key: tgw-…'",
    ):
        super().__init__(message)


class PermissionDenied(WorkbenchError):
    """The credential is good, but not for this."""


class NotFound(WorkbenchError):
    """There is no such thing, or it is not yours to see. What was sent for an id may be a secret: unsaid."""


class InvalidRequest(WorkbenchError):
    """What was asked cannot be done as it was asked; the message says how to ask."""


class InvalidField(InvalidRequest):
    """One member of what was asked for cannot be: which one, and what it may be."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.problems = [{"where": field, "problem": problem}]


class Refused(WorkbenchError):
    """Understood, and not done: the state of things forbids it. Nothing has changed."""


class AlreadyExists(Refused):
    """There is one already, and there can be only one. `what` names it without the caller's own words."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} already exists")


class IdempotencyConflict(Refused):
    """The same Idempotency-Key came with another body."""

    def __init__(self) -> None:
        super().__init__("this Idempotency-Key was already used with another request; send a new key")


class RateLimited(WorkbenchError):
    """More requests than are allowed in a window of time; one passes again in `retry_after` seconds."""

    def __init__(self, *, limit: int, window_seconds: int, retry_after: int) -> None:
        super().__init__(
            f"more than {limit} requests in {window_seconds} seconds; try again in {retry_after} seconds"
        )
        self.limit = limit
        self.window_seconds = window_seconds
        self.retry_after = retry_after


class QuotaExceeded(WorkbenchError):
    """As many of something as one may have at a time. `what` is a plural: "active training jobs"."""

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"there are {limit} {what} already, which is the limit; wait for one to end")
        self.limit = limit


class DeadlineExceeded(WorkbenchError):
    """The answer is not there yet; the operation goes on and can be asked for again."""

    def __init__(self, future_id: str, message: str | None = None) -> None:
        super().__init__(message or f"not finished yet; ask for future {future_id} again")
        self.future_id = future_id


def error_named(name: str) -> type[WorkbenchError]:
    """The class that a stored record names; the root when it is none of ours."""
    families: list[type[WorkbenchError]] = [WorkbenchError]
    while families:
        family = families.pop()
        if family.__name__ == name:
            return family
        families.extend(family.__subclasses__())
    return WorkbenchError
