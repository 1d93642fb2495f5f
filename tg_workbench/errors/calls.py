"""What the SDK's side adds: a call that came to nothing."""

from __future__ import annotations

from typing import Any

from tg_workbench.errors.families import WorkbenchError


class CallFailed(WorkbenchError):
    """The workbench could not be reached, or answered a call with an error."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.request_id = request_id
        self._details = details or {}

    @property
    def details(self) -> dict[str, Any]:
        """What the server added to the error."""
        return self._details
