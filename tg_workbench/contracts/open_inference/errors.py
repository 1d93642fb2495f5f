"""How the Open Inference Protocol words a failure: `{"error": a sentence}`."""

from __future__ import annotations

from pydantic import BaseModel
from starlette.responses import Response

from tg_workbench.contracts.failures import Failure
from tg_workbench.contracts.route import Contract, failures_in, route_of
from tg_workbench.contracts.statuses import status_of


class OpenInferenceFailure(BaseModel):
    """What went wrong."""

    error: str


def render(failure: Failure, request_id: str) -> Response:
    """The answer that says what went wrong."""
    return failure.answer(status_of(failure), {"error": failure.message})


OPEN_INFERENCE = Contract("open_inference", "Open Inference Protocol", render)
OpenInferenceRoute = route_of(OPEN_INFERENCE)
OPEN_INFERENCE_FAILURES = failures_in(OpenInferenceFailure)
