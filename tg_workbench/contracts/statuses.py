"""HTTP's number for each kind of failure, and HTTP's words for each number, where a document has no others.

The words stand here because those of Python's `http` differ between its versions, and a document's may not.
"""

from __future__ import annotations

from tg_workbench import errors
from tg_workbench.contracts.failures import BodyTooLarge, Failure, MethodNotAllowed, RangeUnsatisfiable

STATUSES: dict[type[errors.WorkbenchError], int] = {
    errors.Unauthenticated: 401,
    errors.PermissionDenied: 403,
    errors.NotFound: 404,
    errors.InvalidRequest: 400,
    MethodNotAllowed: 405,
    BodyTooLarge: 413,
    RangeUnsatisfiable: 416,
    errors.Refused: 409,
    errors.NoGradient: 400,
    errors.PrivacyRefused: 400,  # never 409, 429 or 5xx, which clients take as a reason to try again
    errors.CheckpointInvalid: 400,
    errors.DeadlineExceeded: 408,
    errors.RateLimited: 429,
    errors.QuotaExceeded: 429,
    errors.ClientFailed: 409,
    errors.WorkerLost: 500,
    errors.QueueFull: 503,
    errors.ModelNotReady: 503,
    errors.DatabaseUnavailable: 503,
    errors.PublicUrlMissing: 503,
    errors.StorageFull: 507,
    errors.WorkbenchError: 500,
}

PHRASES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    413: "Content Too Large",
    416: "Range Not Satisfiable",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
    507: "Insufficient Storage",
}


def status_of(failure: Failure) -> int:
    """The status of a failure: that of the nearest kind that has one."""
    return failure.nearest(STATUSES)
