"""How TG-Tinker words a failure: `{"error": {code, message, details, request_id}}`.

The codes up to DP_BUDGET_EXCEEDED are the document's own. That one is 400 and never 402, 409, 429 or 5xx,
which clients take as a reason to try again.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from tg_workbench import errors
from tg_workbench.contracts.failures import BodyTooLarge, Failure, MethodNotAllowed, RangeUnsatisfiable
from tg_workbench.contracts.route import Contract, route_of

CODES: dict[type[errors.WorkbenchError], tuple[str, int]] = {
    errors.Unauthenticated: ("AUTHENTICATION_REQUIRED", 401),
    errors.PermissionDenied: ("PERMISSION_DENIED", 403),
    errors.TrainingClientNotFound: ("TRAINING_CLIENT_NOT_FOUND", 404),
    errors.FutureNotFound: ("FUTURE_NOT_FOUND", 404),
    errors.ArtifactNotFound: ("ARTIFACT_NOT_FOUND", 404),
    errors.InvalidRequest: ("VALIDATION_ERROR", 422),
    errors.QueueFull: ("QUEUE_FULL", 503),
    errors.DeadlineExceeded: ("FUTURE_TIMEOUT", 408),
    errors.OperationCancelled: ("FUTURE_CANCELLED", 409),
    errors.BudgetExhausted: ("DP_BUDGET_EXCEEDED", 400),
    errors.WorkbenchError: ("INTERNAL_ERROR", 500),
    # ours, where the document has no word
    errors.DatasetNotFound: ("DATASET_NOT_FOUND", 404),
    errors.ModelNotFound: ("MODEL_NOT_FOUND", 404),
    errors.ApiKeyNotFound: ("API_KEY_NOT_FOUND", 404),
    errors.WebhookNotFound: ("WEBHOOK_NOT_FOUND", 404),
    errors.DeliveryNotFound: ("DELIVERY_NOT_FOUND", 404),
    errors.NotificationNotFound: ("NOTIFICATION_NOT_FOUND", 404),
    errors.NotFound: ("NOT_FOUND", 404),
    MethodNotAllowed: ("METHOD_NOT_ALLOWED", 405),
    BodyTooLarge: ("PAYLOAD_TOO_LARGE", 413),
    RangeUnsatisfiable: ("RANGE_NOT_SATISFIABLE", 416),
    errors.DatasetNotReady: ("DATASET_NOT_READY", 409),
    errors.UploadNotFound: ("UPLOAD_NOT_FOUND", 404),
    errors.UploadTooSlow: ("UPLOAD_TOO_SLOW", 408),
    errors.UploadOffsetWrong: ("UPLOAD_OFFSET_WRONG", 409),
    errors.UnknownModel: ("UNKNOWN_MODEL", 422),
    errors.UnsupportedLayer: ("UNSUPPORTED_LAYER", 422),
    errors.NotALanguageModel: ("NOT_A_LANGUAGE_MODEL", 422),
    errors.Refused: ("CONFLICT", 409),
    errors.AlreadyExists: ("ALREADY_EXISTS", 409),
    errors.NoGradient: ("NO_GRADIENT", 400),
    errors.ClientTerminated: ("CLIENT_TERMINATED", 409),
    errors.PrivacyRefused: ("PRIVACY_REFUSED", 400),
    errors.CheckpointInvalid: ("CHECKPOINT_INVALID", 400),
    errors.RateLimited: ("RATE_LIMIT_EXCEEDED", 429),
    errors.QuotaExceeded: ("QUOTA_EXCEEDED", 429),
    errors.DeviceNotFound: ("DEVICE_NOT_FOUND", 404),
    errors.RoundNotFound: ("ROUND_NOT_FOUND", 404),
    errors.CampaignNotFound: ("CAMPAIGN_NOT_FOUND", 404),
    errors.DeviceNotOnline: ("DEVICE_OFFLINE", 409),
    errors.DeviceRevoked: ("DEVICE_REVOKED", 403),
    errors.EnrollmentTokenExpired: ("ENROLLMENT_TOKEN_EXPIRED", 401),
    errors.EnrollmentTokenNotFound: ("ENROLLMENT_TOKEN_NOT_FOUND", 404),
    errors.ClockSkewed: ("CLOCK_SKEWED", 401),
    errors.QuantumKeyInvalid: ("INVALID_QUANTUM_KEY", 422),
    errors.CertificateInvalid: ("INVALID_QUANTUM_KEY", 422),
    errors.DeviceKeysRequired: ("INVALID_QUANTUM_KEY", 422),
    errors.WorkerLost: ("WORKER_LOST", 500),
    errors.ClientFailed: ("CLIENT_FAILED", 409),
    errors.StorageFull: ("STORAGE_FULL", 507),
    errors.DatabaseUnavailable: ("DATABASE_UNAVAILABLE", 503),
    errors.ModelNotReady: ("MODEL_NOT_READY", 503),
    errors.ModelBusy: ("MODEL_BUSY", 503),
    errors.ModelFailed: ("MODEL_FAILED", 409),
    errors.ServiceNotFound: ("SERVICE_NOT_FOUND", 404),
    errors.PublicUrlMissing: ("NOT_CONFIGURED", 503),
}


def code_of(failure: Failure) -> tuple[str, int]:
    """The code and the status of a failure: those of the nearest kind that has one."""
    return failure.nearest(CODES)


def facts_of(failure: Failure) -> dict[str, Any]:
    """A failure's details; `kind` names it where its code covers several kinds."""
    narrower = failure.kind not in CODES and failure.kind.__name__ in errors.__all__
    return {**failure.details, "kind": failure.kind.__name__} if narrower else dict(failure.details)


def render(failure: Failure, request_id: str) -> Response:
    """The answer that says what went wrong."""
    code, status = code_of(failure)
    error = {
        "code": code,
        "message": failure.message,
        "details": facts_of(failure),
        "request_id": request_id,
    }
    return failure.answer(status, {"error": error})


TG_TINKER = Contract("tg_tinker", "TG-Tinker", render)
WORKBENCH = Contract("workbench", "TG Workbench", render)
"""Our own contract speaks in the same envelope."""

TinkerRoute = route_of(TG_TINKER)
WorkbenchRoute = route_of(WORKBENCH)
