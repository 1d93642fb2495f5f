"""How QFLARE words a failure: `{"error": {code, message, details, request_id}}`.

`details` always holds the time. A request that is not valid is 422. The codes of devices, rounds and keys
come with the rooms that raise them.
"""

from __future__ import annotations

import time
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from tg_workbench import errors
from tg_workbench.contracts.accounts import utc
from tg_workbench.contracts.failures import BodyTooLarge, Failure, MethodNotAllowed
from tg_workbench.contracts.route import Contract, failures_in, route_of

CODES: dict[type[errors.WorkbenchError], tuple[str, int]] = {
    errors.Unauthenticated: ("INVALID_TOKEN", 401),
    errors.PermissionDenied: ("INSUFFICIENT_PERMISSIONS", 403),
    errors.QuotaExceeded: ("QUOTA_EXCEEDED", 429),
    errors.DeviceNotFound: ("DEVICE_NOT_FOUND", 404),
    errors.DeviceNotOnline: ("DEVICE_OFFLINE", 409),
    errors.EnrollmentTokenExpired: ("ENROLLMENT_TOKEN_EXPIRED", 401),
    errors.QuantumKeyInvalid: ("INVALID_QUANTUM_KEY", 422),
    errors.CertificateInvalid: ("INVALID_QUANTUM_KEY", 422),
    errors.DeviceKeysRequired: ("INVALID_QUANTUM_KEY", 422),
    errors.EnvelopeBroken: ("INVALID_QUANTUM_KEY", 422),
    errors.RoundNotOpen: ("TRAINING_IN_PROGRESS", 409),
    # ours, where the document has no word
    errors.RoundNotFound: ("ROUND_NOT_FOUND", 404),
    errors.CampaignNotFound: ("CAMPAIGN_NOT_FOUND", 404),
    errors.DeviceUnfit: ("DEVICE_NOT_ELIGIBLE", 409),
    errors.UpdateAlreadySubmitted: ("UPDATE_ALREADY_SUBMITTED", 409),
    errors.UpdateRejected: ("UPDATE_REJECTED", 422),
    errors.CredentialMissing: ("AUTHENTICATION_REQUIRED", 401),
    errors.NotFound: ("NOT_FOUND", 404),
    errors.TrainingClientNotFound: ("TRAINING_CLIENT_NOT_FOUND", 404),
    errors.FutureNotFound: ("FUTURE_NOT_FOUND", 404),
    errors.ArtifactNotFound: ("ARTIFACT_NOT_FOUND", 404),
    errors.DatasetNotFound: ("DATASET_NOT_FOUND", 404),
    errors.ApiKeyNotFound: ("API_KEY_NOT_FOUND", 404),
    errors.InvalidRequest: ("VALIDATION_ERROR", 422),
    MethodNotAllowed: ("METHOD_NOT_ALLOWED", 405),
    BodyTooLarge: ("PAYLOAD_TOO_LARGE", 413),
    errors.Refused: ("CONFLICT", 409),
    errors.AlreadyExists: ("ALREADY_EXISTS", 409),
    errors.PrivacyRefused: ("PRIVACY_REFUSED", 400),
    errors.BudgetExhausted: ("PRIVACY_BUDGET_EXHAUSTED", 400),
    errors.CheckpointInvalid: ("CHECKPOINT_INVALID", 400),
    errors.RateLimited: ("RATE_LIMIT_EXCEEDED", 429),
    errors.DeadlineExceeded: ("TIMEOUT", 408),
    errors.ClientFailed: ("CONFLICT", 409),
    errors.WorkerLost: ("WORKER_LOST", 500),
    errors.QueueFull: ("QUEUE_FULL", 503),
    errors.DatabaseUnavailable: ("DATABASE_UNAVAILABLE", 503),
    errors.ModelNotReady: ("MODEL_NOT_READY", 503),
    errors.PublicUrlMissing: ("NOT_CONFIGURED", 503),
    errors.StorageFull: ("STORAGE_FULL", 507),
    errors.WorkbenchError: ("INTERNAL_ERROR", 500),
}


class QflareDetails(BaseModel, extra="allow"):
    """When it went wrong, and the facts."""

    timestamp: str


class QflareError(BaseModel):
    """What went wrong, for a program (`code`) and for a person (`message`)."""

    code: str
    message: str
    details: QflareDetails
    request_id: str


class QflareFailure(BaseModel):
    """QFLARE's envelope around an error."""

    error: QflareError


def timestamp() -> str:
    """Now, as QFLARE writes a time."""
    return utc(time.time())


def render(failure: Failure, request_id: str) -> Response:
    """The answer that says what went wrong."""
    code, status = failure.nearest(CODES)
    details: dict[str, Any] = {**failure.details, "timestamp": timestamp()}
    error = {"code": code, "message": failure.message, "details": details, "request_id": request_id}
    return failure.answer(status, {"error": error})


QFLARE = Contract("qflare", "QFLARE", render)
QflareRoute = route_of(QFLARE)
QFLARE_FAILURES = failures_in(QflareFailure)
