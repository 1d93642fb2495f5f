"""Errors as they come over the wire, turned back into the classes of `tg_workbench.errors`.

An answer's `code` names the class; its message and its facts are the server's. Codes without a class become
`CallFailed`. A class's own `__init__` is not run: it would word the message anew from arguments we lack.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tg_workbench import errors
from tg_workbench.errors import CallFailed, WorkbenchError

CLASSES: Mapping[str, type[WorkbenchError]] = {
    "AUTHENTICATION_REQUIRED": errors.Unauthenticated,
    "PERMISSION_DENIED": errors.PermissionDenied,
    "NOT_FOUND": errors.NotFound,
    "TRAINING_CLIENT_NOT_FOUND": errors.TrainingClientNotFound,
    "FUTURE_NOT_FOUND": errors.FutureNotFound,
    "ARTIFACT_NOT_FOUND": errors.ArtifactNotFound,
    "DATASET_NOT_FOUND": errors.DatasetNotFound,
    "API_KEY_NOT_FOUND": errors.ApiKeyNotFound,
    "WEBHOOK_NOT_FOUND": errors.WebhookNotFound,
    "DELIVERY_NOT_FOUND": errors.DeliveryNotFound,
    "VALIDATION_ERROR": errors.InvalidRequest,
    "INVALID_BATCH": errors.InvalidBatch,
    "UNKNOWN_MODEL": errors.UnknownModel,
    "UNSUPPORTED_LAYER": errors.UnsupportedLayer,
    "NOT_A_LANGUAGE_MODEL": errors.NotALanguageModel,
    "PAYLOAD_TOO_LARGE": errors.InvalidRequest,
    "NO_GRADIENT": errors.NoGradient,
    "CLIENT_TERMINATED": errors.ClientTerminated,
    "DATASET_IN_USE": errors.DatasetInUse,
    "CONFLICT": errors.Refused,
    "ALREADY_EXISTS": errors.AlreadyExists,
    "RATE_LIMIT_EXCEEDED": errors.RateLimited,
    "QUOTA_EXCEEDED": errors.QuotaExceeded,
    "FUTURE_CANCELLED": errors.OperationCancelled,
    "PRIVACY_REFUSED": errors.PrivacyRefused,
    "DP_BUDGET_EXCEEDED": errors.BudgetExhausted,
    "CHECKPOINT_INVALID": errors.CheckpointInvalid,
    "WORKER_LOST": errors.WorkerLost,
    "CLIENT_FAILED": errors.ClientFailed,
    "QUEUE_FULL": errors.QueueFull,
    "STORAGE_FULL": errors.StorageFull,
    "FUTURE_TIMEOUT": errors.DeadlineExceeded,
    "DATABASE_UNAVAILABLE": errors.DatabaseUnavailable,
    "DATASET_NOT_READY": errors.DatasetNotReady,
    "UPLOAD_NOT_FOUND": errors.UploadNotFound,
    "UPLOAD_TOO_SLOW": errors.UploadTooSlow,
    "UPLOAD_OFFSET_WRONG": errors.UploadOffsetWrong,
    "MODEL_NOT_FOUND": errors.ModelNotFound,
    "SERVICE_NOT_FOUND": errors.ServiceNotFound,
    "MODEL_FAILED": errors.ModelFailed,
    "MODEL_NOT_READY": errors.ModelNotReady,
    "MODEL_BUSY": errors.ModelBusy,
    "DEVICE_NOT_FOUND": errors.DeviceNotFound,
    "DEVICE_OFFLINE": errors.DeviceNotOnline,
    "DEVICE_REVOKED": errors.DeviceRevoked,
    "DEVICE_NOT_ELIGIBLE": errors.DeviceUnfit,
    "ENROLLMENT_TOKEN_NOT_FOUND": errors.EnrollmentTokenNotFound,
    "ENROLLMENT_TOKEN_EXPIRED": errors.EnrollmentTokenExpired,
    "INVALID_QUANTUM_KEY": errors.InvalidRequest,
    "CAMPAIGN_NOT_FOUND": errors.CampaignNotFound,
    "ROUND_NOT_FOUND": errors.RoundNotFound,
    "TRAINING_IN_PROGRESS": errors.RoundNotOpen,
    "UPDATE_ALREADY_SUBMITTED": errors.UpdateAlreadySubmitted,
    "UPDATE_REJECTED": errors.UpdateRejected,
    # where other documents' routes have other words
    "INVALID_TOKEN": errors.Unauthenticated,
    "INSUFFICIENT_PERMISSIONS": errors.PermissionDenied,
}

BY_STATUS: Mapping[int, str] = {
    400: "VALIDATION_ERROR",
    401: "AUTHENTICATION_REQUIRED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "FUTURE_TIMEOUT",
    409: "CONFLICT",
    413: "PAYLOAD_TOO_LARGE",
    429: "RATE_LIMIT_EXCEEDED",
    503: "MODEL_NOT_READY",
    507: "STORAGE_FULL",
}
"""The code of an error in a document whose own say no more than HTTP's number."""

ADVICE: Mapping[str, str] = {
    "CredentialMissing": "; here that is Workbench(api_key='tgw-…'), the variable TG_API_KEY or wb.login(…)"
}
"""What the SDK adds to a kind's message, where that was written for callers of the API."""


def envelope_of(body: Any, status: int) -> Any:
    """What a refusal tells as `{code, message, details}`, whichever document's words it has."""
    told = body.get("error") if isinstance(body, Mapping) else None
    if isinstance(told, str):
        more = body.get("details")
        message = body.get("message") or (f"{told}: {more}" if isinstance(more, str) else told)
        details = {"problems": more} if isinstance(more, list) else {}
        return {"code": BY_STATUS.get(status, told), "message": message, "details": details}
    if isinstance(told, Mapping) and told.get("code") not in CLASSES and "details" not in told:
        return {**told, "code": BY_STATUS.get(status, told.get("code"))}
    return told


def error_from(error: Any, *, status: int | None = None) -> WorkbenchError:
    """The error that `{code, message, details, request_id}` tells of; anything else is a CallFailed."""
    if not isinstance(error, Mapping) or not isinstance(error.get("code"), str):
        return CallFailed(f"the workbench answered {status} without saying why", status=status)
    code = error["code"]
    details = error.get("details") if isinstance(error.get("details"), dict) else {}
    message = str(error.get("message") or code) + ADVICE.get(str((details or {}).get("kind")), "")
    request_id = error.get("request_id")
    kind = CLASSES.get(code)
    if kind is None:
        return CallFailed(message, code=code, status=status, request_id=request_id, details=details)
    narrower = errors.error_named(str((details or {}).get("kind")))
    if issubclass(narrower, kind):
        kind = narrower
    return rebuilt(kind, message, {**(details or {}), "code": code, "request_id": request_id})


def rebuilt(kind: type[WorkbenchError], message: str, facts: Mapping[str, Any]) -> WorkbenchError:
    """An instance with this message and these facts as attributes."""
    rebuilt = kind.__new__(kind)
    Exception.__init__(rebuilt, message)
    for name, value in facts.items():
        if value is not None and name.isidentifier() and not hasattr(kind, name):
            setattr(rebuilt, name, value)
    return rebuilt
