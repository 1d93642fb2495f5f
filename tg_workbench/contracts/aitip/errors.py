"""How AITIP words a failure: `{"success": false, "error": {code, message}}`, where the code is HTTP's phrase.

A request that is not valid is 400, never 422. There is no room for facts, so the message says all.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel
from starlette.responses import Response

from tg_workbench.contracts.failures import Failure
from tg_workbench.contracts.route import Contract, failures_in, route_of
from tg_workbench.contracts.statuses import PHRASES, status_of


class AitipError(BaseModel):
    """What went wrong: HTTP's phrase for it, and a sentence."""

    code: str
    message: str


class AitipFailure(BaseModel):
    """AITIP's envelope around an error."""

    success: Literal[False]
    error: AitipError


def render(failure: Failure, request_id: str) -> Response:
    """The answer that says what went wrong."""
    status = status_of(failure)
    error = {"code": PHRASES[status], "message": failure.message}
    return failure.answer(status, {"success": False, "error": error})


AITIP = Contract("aitip", "AITIP", render)
AitipRoute = route_of(AITIP)
AITIP_FAILURES = failures_in(AitipFailure)
