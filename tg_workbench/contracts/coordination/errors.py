"""How API Coordination words a failure: `{"error": a sentence, details?, code?}`, all of them texts.

The document gives sentences word for word: for no credential, for one that is not good, for a server that is
set up wrong, and for statistics that cannot be told. A request that is not valid is 400, and its `details`
say where.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import BaseModel, Field
from starlette.responses import Response

from tg_workbench import errors
from tg_workbench.contracts.failures import Failure, ValidationFailed
from tg_workbench.contracts.route import Contract, failures_in, route_of
from tg_workbench.contracts.statuses import PHRASES, status_of

SENTENCES: dict[type[errors.WorkbenchError], str] = {
    errors.Unauthenticated: "Unauthorized",
    errors.CredentialMissing: "Missing authorization header",
    errors.KeysUnreadable: "Server configuration error",
    errors.DatabaseTooNew: "Server configuration error",
    errors.InvalidSetting: "Server configuration error",
    ValidationFailed: "Invalid input",
    errors.WorkbenchError: "",
}


class CoordinationFailure(BaseModel):
    """API Coordination's word for an error."""

    error: str
    details: str | None = Field(None, description="What more there is to say.")
    code: str | None = Field(None, description="For a program: HTTP's phrase in capitals.")


def render(failure: Failure, request_id: str) -> Response:
    """The answer that says what went wrong."""
    status = status_of(failure)
    sentence = failure.nearest(SENTENCES)
    body = {"error": sentence or failure.message}
    if sentence and status < 500:
        body["details"] = _whole(failure)
    return failure.answer(status, {**body, "code": PHRASES[status].upper().replace(" ", "_")})


def _whole(failure: Failure) -> str:
    problems = failure.details.get("problems", ())
    return "; ".join(f"{problem['where']}: {problem['problem']}" for problem in problems) or failure.message


def render_statistics(failure: Failure, request_id: str) -> Response:
    """The same of statistics: whatever of ours they fail of, the document has one sentence for it."""
    is_ours = status_of(failure) >= 500 and not failure.nearest(SENTENCES)
    return render(replace(failure, message=NO_STATISTICS) if is_ours else failure, request_id)


NO_STATISTICS = "Failed to fetch statistics"
COORDINATION = Contract("coordination", "API Coordination", render)
CoordinationRoute = route_of(COORDINATION)
StatisticsRoute = route_of(replace(COORDINATION, render=render_statistics))
COORDINATION_FAILURES = failures_in(CoordinationFailure)
