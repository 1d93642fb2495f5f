"""TG Workbench: train on data you may not leak.

The front door: `from tg_workbench import Workbench`, the errors, the version.

**Why** `Workbench` comes only when it is named: the API and every worker import this package too, and need
no HTTP client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tg_workbench.errors import (
    AccountTaken,
    AlreadyExists,
    ApiKeyNotFound,
    ArtifactNotFound,
    BudgetExhausted,
    CallFailed,
    CheckpointInvalid,
    CheckpointMismatch,
    ClientFailed,
    ClientTerminated,
    DatabaseUnavailable,
    DatasetInUse,
    DatasetInvalid,
    DatasetNotFound,
    DatasetNotReady,
    DeadlineExceeded,
    DeliveryNotFound,
    FutureNotFound,
    IdempotencyConflict,
    InvalidBatch,
    InvalidRequest,
    InvalidSetting,
    InvitationInvalid,
    JobFailed,
    JobNotFound,
    JobNotRestartable,
    LastOwner,
    ModelFailed,
    ModelInUse,
    ModelNotFound,
    ModelNotReady,
    NoGradient,
    NotALanguageModel,
    NotFound,
    OperationCancelled,
    PasswordUnfit,
    PermissionDenied,
    PrivacyRefused,
    QueueFull,
    Refused,
    RegistrationClosed,
    SealBroken,
    ServiceNotFound,
    ServiceStopped,
    StorageFull,
    TooManyJobs,
    TooManyWebhooks,
    TrainingClientNotFound,
    Unauthenticated,
    UnknownModel,
    UnsupportedLayer,
    UploadNotFound,
    WebhookNotFound,
    WorkbenchError,
    WorkerLost,
    WrongPassword,
)

if TYPE_CHECKING:
    from tg_workbench.sdk import (
        Architecture,
        EarlyStopping,
        LoRA,
        Optimizer,
        Privacy,
        Schedule,
        TrainingClient,
        Workbench,
        recipes,
    )

__version__ = "0.1.0"

__all__ = [
    "AccountTaken",
    "AlreadyExists",
    "ApiKeyNotFound",
    "Architecture",
    "ArtifactNotFound",
    "BudgetExhausted",
    "CallFailed",
    "CheckpointInvalid",
    "CheckpointMismatch",
    "ClientFailed",
    "ClientTerminated",
    "DatabaseUnavailable",
    "DatasetInUse",
    "DatasetInvalid",
    "DatasetNotFound",
    "DatasetNotReady",
    "DeadlineExceeded",
    "DeliveryNotFound",
    "EarlyStopping",
    "FutureNotFound",
    "IdempotencyConflict",
    "InvalidBatch",
    "InvalidRequest",
    "InvalidSetting",
    "InvitationInvalid",
    "JobFailed",
    "JobNotFound",
    "JobNotRestartable",
    "LastOwner",
    "LoRA",
    "ModelFailed",
    "ModelInUse",
    "ModelNotFound",
    "ModelNotReady",
    "NoGradient",
    "NotALanguageModel",
    "NotFound",
    "OperationCancelled",
    "Optimizer",
    "PasswordUnfit",
    "PermissionDenied",
    "Privacy",
    "PrivacyRefused",
    "QueueFull",
    "Refused",
    "RegistrationClosed",
    "Schedule",
    "SealBroken",
    "ServiceNotFound",
    "ServiceStopped",
    "StorageFull",
    "TooManyJobs",
    "TooManyWebhooks",
    "TrainingClient",
    "TrainingClientNotFound",
    "Unauthenticated",
    "UnknownModel",
    "UnsupportedLayer",
    "UploadNotFound",
    "WebhookNotFound",
    "Workbench",
    "WorkbenchError",
    "WorkerLost",
    "WrongPassword",
    "__version__",
    "recipes",
]

_FROM_SDK = (
    "Architecture",
    "EarlyStopping",
    "LoRA",
    "Optimizer",
    "Privacy",
    "Schedule",
    "TrainingClient",
    "Workbench",
    "recipes",
)


def __getattr__(name: str) -> Any:
    """The SDK's names, imported when they are first asked for."""
    if name not in _FROM_SDK:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tg_workbench import sdk

    return getattr(sdk, name)
