"""Everything that can go wrong, as one tree of facts.

WorkbenchError
├── InvalidSetting             an environment variable has a value nobody can use
├── Unauthenticated            CredentialMissing, TokenExpired, WrongPassword, EnrollmentTokenExpired,
│                              AssertionInvalid, ClockSkewed, or something not ours
├── PermissionDenied           a credential that may not do this; RegistrationClosed, DeviceRevoked
├── NotFound                   TrainingClientNotFound, FutureNotFound, ArtifactNotFound, DatasetNotFound,
│                              ApiKeyNotFound, UserNotFound, OrganizationNotFound, InvitationNotFound,
│                              SessionNotFound, OAuthClientNotFound, WebhookNotFound, DeliveryNotFound,
│                              AlertNotFound, AlertRuleNotFound, ModelNotFound, JobNotFound, UploadNotFound,
│                              NotificationNotFound, ResultsNotFound, ServiceNotFound, DeviceNotFound,
│                              EnrollmentTokenNotFound, CampaignNotFound, RoundNotFound
├── InvalidRequest             InvalidField, InvalidBatch, RowInvalid, UnknownModel, UnsupportedLayer,
│                              NotALanguageModel, PasswordUnfit, InvitationInvalid, AuthorizationRefused,
│                              GrantInvalid, GrantUnsupported, ScopeInvalid, DatasetInvalid, MailUnavailable,
│                              QuantumKeyInvalid, CertificateInvalid, EnvelopeBroken, DeviceKeysRequired,
│                              UpdateInvalid
├── Refused                    NoGradient, ClientTerminated, DatasetInUse, ModelInUse, OperationCancelled,
│                              LastOwner, TooManyWebhooks, JobNotRestartable, DatasetNotReady, UploadBusy,
│                              UploadOffsetWrong, JobEnded, ServiceStopped, ModelFailed, DeviceNotOnline,
│                              DeviceUnfit, RoundNotOpen, UpdateAlreadySubmitted, UpdateRejected,
│                              TooFewUpdates
│   ├── SecureAggregationRefused   TooFewSurvivors
│   ├── AlreadyExists          AccountTaken
│   ├── IdempotencyConflict
│   └── PrivacyRefused         BudgetExhausted
├── CheckpointInvalid          SealBroken, CheckpointMismatch
├── WorkerLost, ClientFailed   the process that held a client is gone; the client cannot go on
├── Interrupted                broken off because its worker leaves; another one begins it anew
├── RateLimited                too many requests in a window of time; TooManyAttempts to sign in
├── QuotaExceeded              as many of something as one may have at a time; TooManyJobs
├── KeysUnreadable             what was sealed or signed can be neither opened nor believed
├── SigningKeyUnreadable, SignaturesUnavailable   the audit log can be neither signed nor verified
├── SealingUnavailable, AuthorityUnusable   nothing can be sealed for devices; they cannot be certified
├── AuditUnreadable            there is no audit log to verify
├── ModelNotReady              no worker of a model answers yet; ModelBusy: too many ask it
├── QueueFull, StorageFull, DatabaseUnavailable, DatabaseTooNew
├── DeadlineExceeded           UploadTooSlow, ValidationUnfinished
├── AssignmentInvalid, DeviceFolderUnusable   (device) it was not told by its workbench; it has no home
├── JobFailed                  (SDK) a training job that was waited for came to no model
├── CampaignFailed             (SDK) a campaign of devices that was waited for came to no model
└── CallFailed                 (SDK) the workbench could not be reached, or answered with an error

Errors hold facts and say what to do; contracts decide on codes and numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
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


class InvalidSetting(WorkbenchError):
    """An environment variable has a value nobody can use."""

    def __init__(self, name: str, value: str, expected: str) -> None:
        super().__init__(f"{name} is {value!r}; it must be {expected}")
        self.name = name


class Unauthenticated(WorkbenchError):
    """No credential was sent, or it is unknown, expired or revoked."""

    def __init__(
        self, message: str = "send an API key as 'Authorization: Bearer tgw-…' or 'X-API-Key: tgw-…'"
    ):
        super().__init__(message)


class WrongPassword(Unauthenticated):
    """No account has this name and this password; which of the two it was is not told."""

    def __init__(self) -> None:
        super().__init__("no account has this name and this password")


class EnrollmentTokenExpired(Unauthenticated):
    """An enrolment token that is unknown, used, revoked, past its time or another's; which is not told."""

    def __init__(self) -> None:
        super().__init__("this enrollment token is not good, or no longer: ask for a new one")


class AssertionInvalid(Unauthenticated):
    """What a device has signed to sign in does not show that it is the device, or was shown before."""

    def __init__(self) -> None:
        super().__init__("this is not signed by a key of the device that is good now, or it was used before")


class ClockSkewed(Unauthenticated):
    """A device's clock is too far from ours; `server_time` is what it should have been."""

    def __init__(self, server_time: int, most_seconds: int) -> None:
        super().__init__(
            f"the timestamp is more than {most_seconds} seconds from the server's time: set the clock"
        )
        self.server_time = server_time
        self.most_seconds = most_seconds


class CredentialMissing(Unauthenticated):
    """No credential was sent at all."""


class TokenExpired(Unauthenticated):
    """The token was good once."""

    def __init__(self, message: str = "this token has expired; get a new one") -> None:
        super().__init__(message)


class PermissionDenied(WorkbenchError):
    """The credential is good, but not for this."""


class RegistrationClosed(PermissionDenied):
    """Nobody can register here, or nobody without an invitation."""

    def __init__(self, *, by_invitation: bool) -> None:
        super().__init__(
            "registration is by invitation: send the invitation_token that an administrator gave you"
            if by_invitation
            else "registration is closed: an administrator makes accounts here"
        )


class DeviceRevoked(PermissionDenied):
    """Whatever this device shows is good no more."""

    def __init__(self) -> None:
        super().__init__("this device was revoked: it has to be enrolled anew")


# ----------------------------------------------------------------------------- not found
class NotFound(WorkbenchError):
    """There is no such thing, or it is not yours to see. What was sent for an id may be a secret: unsaid."""


class TrainingClientNotFound(NotFound):
    """No training client has this id."""

    def __init__(self) -> None:
        super().__init__("there is no training client with this id")


class FutureNotFound(NotFound):
    """No future has this id."""

    def __init__(self) -> None:
        super().__init__("there is no future with this id")


class ArtifactNotFound(NotFound):
    """No artifact has this id."""

    def __init__(self) -> None:
        super().__init__("there is no artifact with this id")


class DatasetNotFound(NotFound):
    """No dataset has this id."""

    def __init__(self) -> None:
        super().__init__("there is no dataset with this id")


class ServiceNotFound(NotFound):
    """No inference service has this id or name."""

    def __init__(self) -> None:
        super().__init__("there is no inference service with this id or name")


class ModelNotFound(NotFound):
    """No model has this id."""

    def __init__(self) -> None:
        super().__init__("there is no model with this id")


class UploadNotFound(NotFound):
    """No upload has this id, or no longer."""

    def __init__(self) -> None:
        super().__init__("there is no upload with this id, or no longer: begin a new one")


class ApiKeyNotFound(NotFound):
    """No API key has this id."""

    def __init__(self) -> None:
        super().__init__("there is no API key with this id")


class AlertNotFound(NotFound):
    """No alert has this id."""

    def __init__(self) -> None:
        super().__init__("there is no alert with this id")


class NotificationNotFound(NotFound):
    """No notification of yours has this id."""

    def __init__(self) -> None:
        super().__init__("there is no notification with this id")


class AlertRuleNotFound(NotFound):
    """No rule of alerts has this name."""

    def __init__(self) -> None:
        super().__init__("there is no alert rule of this name")


class JobNotFound(NotFound):
    """No such job, or it belongs to somebody else."""

    def __init__(self) -> None:
        super().__init__("there is no training job with this id")


class ResultsNotFound(NotFound):
    """A job that has no results: it is not done, or came to none."""

    def __init__(self, status: str) -> None:
        super().__init__(f"there are no results of this training job: it is {status}")
        self.status = status


class UserNotFound(NotFound):
    """No user has this id."""

    def __init__(self) -> None:
        super().__init__("there is no user with this id")


class OrganizationNotFound(NotFound):
    """No organisation has this id."""

    def __init__(self) -> None:
        super().__init__("there is no organization with this id")


class InvitationNotFound(NotFound):
    """No open invitation has this id."""

    def __init__(self) -> None:
        super().__init__("there is no open invitation with this id")


class SessionNotFound(NotFound):
    """No living session has this id."""

    def __init__(self) -> None:
        super().__init__("there is no session with this id")


class OAuthClientNotFound(NotFound):
    """No OAuth client has this id."""

    def __init__(self) -> None:
        super().__init__("there is no OAuth client with this id")


class WebhookNotFound(NotFound):
    """No webhook subscription has this id."""

    def __init__(self) -> None:
        super().__init__("there is no webhook with this id")


class DeliveryNotFound(NotFound):
    """No delivery of a webhook has this id."""

    def __init__(self) -> None:
        super().__init__("there is no delivery with this id")


class DeviceNotFound(NotFound):
    """No device has this id."""

    def __init__(self) -> None:
        super().__init__("there is no device with this id")


class EnrollmentTokenNotFound(NotFound):
    """No open enrolment token has this id."""

    def __init__(self) -> None:
        super().__init__("there is no open enrollment token with this id")


# ----------------------------------------------------------------------------- bad input
class InvalidRequest(WorkbenchError):
    """What was asked cannot be done as it was asked; the message says how to ask."""


class InvalidField(InvalidRequest):
    """One member of what was asked for cannot be: which one, and what it may be."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.problems = [{"where": field, "problem": problem}]


class InvalidBatch(InvalidRequest):
    """A batch that cannot be trained on: empty, not finite, of the wrong shape, or from another tokenizer."""


class RowInvalid(InvalidBatch):
    """A row that a model cannot read; `where` is its place, and the column's, in the request."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.problems = [{"where": f"body.{where}", "problem": problem}]


class DatasetInvalid(InvalidRequest):
    """An uploaded file that cannot be learned from. It says where, and never what stands there.

    `where` names rows, columns or files that all have this problem; none: the file as a whole.
    """

    MOST = 20

    def __init__(self, problem: str, *where: str) -> None:
        self.problems = [{"where": place, "problem": problem} for place in where[: self.MOST] or ("file",)]
        super().__init__(self._told(len(where)))

    @classmethod
    def of(cls, problems: Sequence[tuple[str, str]]) -> DatasetInvalid:
        """Several problems at once, each with its place: (where, problem)."""
        place, problem = problems[0]
        error = cls(problem, place)
        error.problems = [{"where": where, "problem": what} for where, what in problems[: cls.MOST]]
        error.args = (error._told(len(problems)),)
        return error

    def _told(self, found: int) -> str:
        first = self.problems[0]
        more = f" (and {found - 1} more)" if found > 1 else ""
        return f"{first['where']}: {first['problem']}{more}"


class UpdateInvalid(InvalidRequest):
    """A device's update that cannot be read or believed; the reason never says what stands in it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnknownModel(InvalidRequest):
    """A model reference nobody knows."""

    def __init__(self, known: list[str]) -> None:
        super().__init__(
            f"there is no such model: use one of {', '.join(known)} or the path of a local model folder"
        )
        self.known = known


class UnsupportedLayer(InvalidRequest):
    """A layer whose per-example gradient we cannot form, so its privacy cannot be promised.

    With an `engine`: one that this engine cannot clip, or would clip wrongly; ours may.
    """

    def __init__(self, layer: str, kind: str, engine: str | None = None) -> None:
        if engine is None:
            why = "has no per-example gradient here; replace it or freeze it to train privately"
        else:
            why = f"cannot be clipped by engine {engine}; use engine book-keeping, or replace or freeze it"
        super().__init__(f"layer {layer!r} ({kind}) {why}")
        self.layer = layer
        self.kind = kind
        if engine is not None:
            self.engine = engine


class NotALanguageModel(InvalidRequest):
    """`sample` was asked of a model that does not write text."""

    def __init__(self, model_ref: str) -> None:
        super().__init__(f"{model_ref} does not write text: use predict instead of sample")
        self.model_ref = model_ref


class PasswordUnfit(InvalidRequest):
    """A password that cannot be kept: too short, too long, or with characters nobody can type."""


class InvitationInvalid(InvalidRequest):
    """An invitation that is unknown, used, withdrawn or past its time; which is not told."""

    def __init__(self) -> None:
        super().__init__("this invitation is not valid, or no longer: ask for a new one")


class MailUnavailable(InvalidRequest):
    """E-mail was chosen where none can be sent."""

    def __init__(self, *, is_configured: bool) -> None:
        super().__init__(
            "your account has no e-mail address: choose in_app or webhook"
            if is_configured
            else "this workbench sends no e-mail: its operator sets TG_SMTP_URL and TG_SMTP_FROM"
        )


class AuthorizationRefused(InvalidRequest):
    """An application is not let in; `location` is where its user's browser takes the news."""

    def __init__(self, location: str) -> None:
        super().__init__("the application was not let in")
        self.location = location


class GrantInvalid(InvalidRequest):
    """A code or a refresh token that is unknown, used, past its time or another application's."""

    def __init__(self) -> None:
        super().__init__("this code or refresh token is not good, or no longer: ask for a new one")


class GrantUnsupported(InvalidRequest):
    """A way to get a token that is not offered."""

    def __init__(self) -> None:
        super().__init__("grant_type is authorization_code or refresh_token")


class ScopeInvalid(InvalidRequest):
    """A scope that there is not, or that this application may not ask for."""

    def __init__(self) -> None:
        super().__init__("a scope is unknown, or more than this application may ask for")


class DeviceKeysRequired(InvalidRequest):
    """A device that brings no keys of its own, where the server makes none."""

    def __init__(self) -> None:
        super().__init__("send public_keys.encryption and a csr: this workbench makes no keys for devices")


# ----------------------------------------------------------------------------- refused
class Refused(WorkbenchError):
    """Understood, and not done: the state of things forbids it. Nothing has changed."""


class DeviceNotOnline(Refused):
    """A device that would have to be there now, and is not."""

    def __init__(self) -> None:
        super().__init__("this device is not online: it would be locked out. Give it a time of grace")


class NoGradient(Refused):
    """`optim_step` with nothing accumulated."""

    def __init__(self) -> None:
        super().__init__("there is no gradient to apply: call forward_backward before optim_step")


class TooFewUpdates(Refused):
    """Fewer updates than the strategy of a round can make a model of."""

    def __init__(self, have: int, need: int) -> None:
        super().__init__(f"there are {have} updates, and the strategy takes {need} or more")
        self.have, self.need = have, need


class ClientTerminated(Refused):
    """The training client has ended."""

    def __init__(self, client_id: str, reason: str | None = None) -> None:
        super().__init__(
            f"training client {client_id} has ended{f': {reason}' if reason else ''}; create a new one"
        )
        self.reason = reason


class DatasetInUse(Refused):
    """A dataset that a live training client still reads."""

    def __init__(self, dataset_id: str, clients: int) -> None:
        super().__init__(f"dataset {dataset_id} is used by {clients} training client(s); delete those first")
        self.clients = clients


class ModelInUse(Refused):
    """A model that a service still answers with."""

    def __init__(self, services: int) -> None:
        super().__init__(f"this model is served by {services} inference service(s); delete those first")
        self.services = services


class DatasetNotReady(Refused):
    """A dataset that is still being processed, or whose file was no good."""

    def __init__(self, dataset_id: str, status: str, reason: str | None = None) -> None:
        why = f"could not be read: {reason}" if status == "failed" else "is still being processed"
        super().__init__(f"dataset {dataset_id} {why}")
        self.status = status


class UploadBusy(Refused):
    """Somebody else is sending a piece of this upload now."""

    def __init__(self) -> None:
        super().__init__("another request is sending a piece of this upload: let it end first")


class UploadOffsetWrong(Refused):
    """A piece of an upload that does not begin where the last one ended."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"{offset} bytes of this upload are here: go on from there")
        self.offset = offset


class LastOwner(Refused):
    """The organisation would be left without an owner."""

    def __init__(self) -> None:
        super().__init__("an organization keeps at least one owner: make somebody else an owner first")


class TooManyWebhooks(Refused):
    """An organisation has as many webhooks as it may have."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"there are {limit} webhooks already, and no more are kept; delete one first")
        self.limit = limit


class JobNotRestartable(Refused):
    """Only a job that failed or was cancelled can go on, and only as long as its checkpoint is kept."""

    def __init__(self, status: str, kept_days: int | None = None) -> None:
        super().__init__(
            f"this job is {status}: only a failed or cancelled job can be restarted"
            if kept_days is None
            else f"this job was {status} more than {kept_days} days ago, and its last checkpoint is not kept "
            "for longer: submit it again, to begin anew"
        )
        self.status = status


class JobEnded(Refused):
    """There is nothing left to cancel."""

    def __init__(self, status: str) -> None:
        super().__init__(f"this job is {status}: there is nothing to cancel")
        self.status = status


class ServiceStopped(Refused):
    """An inference service that nobody has started."""

    def __init__(self) -> None:
        super().__init__("this inference service is stopped: start it first")


class ModelFailed(Refused):
    """A model that cannot answer, now or ever: it does not load, or its numbers are not finite."""


class OperationCancelled(Refused):
    """The operation was cancelled before it began, or its client ended first."""

    def __init__(self, reason: str = "the operation was cancelled before it began") -> None:
        super().__init__(reason)


class IdempotencyConflict(Refused):
    """The same Idempotency-Key came with another body."""

    def __init__(self) -> None:
        super().__init__("this Idempotency-Key was already used with another request; send a new key")


class AlreadyExists(Refused):
    """There is one already, and there can be only one. `what` names it without the caller's own words."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} already exists")


class AccountTaken(AlreadyExists):
    """Somebody has this user name or this e-mail address already."""

    def __init__(self) -> None:
        super().__init__("an account with this user name or e-mail address")


class PrivacyRefused(Refused):
    """What was asked would make a privacy claim false."""


class BudgetExhausted(PrivacyRefused):
    """The next step would pass an ε cap. It was not taken and nothing was spent."""

    def __init__(
        self, *, spent: float, target: float, next_epsilon: float | None = None, of: str = "run"
    ) -> None:
        reached = "" if next_epsilon is None else f"; the next step would reach {next_epsilon:.2f}"
        super().__init__(
            f"the privacy budget of this {of} is spent: ε = {spent:.2f} of {target:.2f}{reached}"
        )
        self.spent_epsilon = spent
        self.target_epsilon = target
        self.next_epsilon = next_epsilon
        self.of = of


# ----------------------------------------------------------------------------- devices
class QuantumKeyInvalid(InvalidRequest):
    """Bytes that should be a key of ML-KEM-768 and X25519, or of ML-DSA-65, are none."""

    def __init__(self, expected: str) -> None:
        super().__init__(f"this is no usable key: {expected}")
        self.expected = expected


class CertificateInvalid(InvalidRequest):
    """A certificate, or a request for one, that does not count here. `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this certificate does not count: {reason}")
        self.reason = reason


class AssignmentInvalid(WorkbenchError):
    """(Device) What came is not signed by the workbench, or is for another device. `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this device does nothing of what it was told: {reason}")
        self.reason = reason


class DeviceFolderUnusable(WorkbenchError):
    """(Device) A folder that a device cannot live in. `reason` says why."""

    def __init__(self, folder: str, reason: str) -> None:
        super().__init__(f"{folder or 'the folder of this device'}: {reason}")
        self.reason = reason


class CampaignNotFound(NotFound):
    """There is no such campaign, or it is another organisation's."""

    def __init__(self) -> None:
        super().__init__("there is no such campaign")


class RoundNotFound(NotFound):
    """There is no such round, or it is another organisation's, or this device takes no part in it."""

    def __init__(self) -> None:
        super().__init__("there is no such round, or this device takes no part in it")


class DeviceUnfit(Refused):
    """A device has not what a round asks for. `reason` says what."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RoundNotOpen(Refused):
    """A round takes nobody, or nothing, in the phase it is in."""

    def __init__(self, round_id: str, phase: str) -> None:
        super().__init__(
            f"this round is {phase}: devices join while it is recruiting and submit while it is training"
        )
        self.round_id = round_id
        self.phase = phase


class UpdateAlreadySubmitted(Refused):
    """A device has submitted another update for a round before; the first one counts."""

    def __init__(self, round_id: str) -> None:
        super().__init__("this device has submitted another update for this round: the first one counts")
        self.round_id = round_id


class UpdateRejected(Refused):
    """A device's update was opened and found to be of no use. `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this update was rejected, and the round goes on without it: {reason}")
        self.reason = reason


class EnvelopeBroken(InvalidRequest):
    """A sealed update that is not what its device signed, or is none. `reason` says which check it failed."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this envelope is refused: {reason}")
        self.reason = reason


class SecureAggregationRefused(Refused):
    """A step of secure aggregation that would break its promise, or cannot be right. `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"secure aggregation goes no further: {reason}")
        self.reason = reason


class TooFewSurvivors(SecureAggregationRefused):
    """Too many devices have dropped out: what is left cannot be, or must not be, put together."""

    def __init__(self, *, present: int, needed: int) -> None:
        super().__init__(f"devices that are left: {present}, that are needed: {needed}")
        self.present = present
        self.needed = needed


# ----------------------------------------------------------------------------- checkpoints
class CheckpointInvalid(WorkbenchError):
    """A checkpoint that cannot be loaded. The training client is as it was before."""


class SealBroken(CheckpointInvalid):
    """Decryption failed: the bytes were edited, or they belong to somebody else."""

    def __init__(self, what: str = "the checkpoint") -> None:
        super().__init__(f"{what} was edited, damaged or made elsewhere: its seal does not hold")


class CheckpointMismatch(CheckpointInvalid):
    """A sound checkpoint of another model."""


# ----------------------------------------------------------------------------- the machine
class WorkerLost(WorkbenchError):
    """The process that held a training client ended in the middle of an operation."""

    def __init__(self, reason: str, resumed_from: int | None = None) -> None:
        where = (
            "" if resumed_from is None else f"; the client goes on from its checkpoint at step {resumed_from}"
        )
        super().__init__(f"the worker was lost ({reason}){where}. Spent privacy budget stays spent")
        self.reason = reason
        self.resumed_from = resumed_from


class ClientFailed(WorkbenchError):
    """A training client that cannot go on."""


class Interrupted(WorkbenchError):
    """What was going on was broken off, because whoever did it has to leave. Nothing has changed."""


class KeysUnreadable(WorkbenchError):
    """A file of keys cannot be used, so what was sealed or signed with them cannot be opened or believed."""

    def __init__(self, file: str) -> None:
        super().__init__(
            f"{file} in TG_HOME does not hold this workbench's keys: put your copy of it back. Without its "
            "key-encryption keys no checkpoint opens; without its token keys everybody has to sign in again"
        )


class SigningKeyUnreadable(WorkbenchError):
    """A file that should hold a key of ML-DSA-65 holds none that can be used."""

    def __init__(self, file: str) -> None:
        super().__init__(f"{file} does not hold a key of ML-DSA-65: put your copy of it back")
        self.file = file


class SignaturesUnavailable(WorkbenchError):
    """Signatures of ML-DSA-65 cannot be made here. Nothing weaker takes their place."""

    def __init__(self) -> None:
        super().__init__("the audit log is signed with ML-DSA-65: install cryptography 50 or newer")


class SealingUnavailable(WorkbenchError):
    """Nothing can be sealed with ML-KEM-768 and X25519 here. Nothing weaker takes their place."""

    def __init__(self) -> None:
        super().__init__(
            "what devices send is sealed with ML-KEM-768 and X25519: install cryptography 50 or newer"
        )


class AuthorityUnusable(WorkbenchError):
    """The authority that certifies devices cannot be used. `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the authority for devices' certificates cannot be used: {reason}")
        self.reason = reason


class AuditUnreadable(WorkbenchError):
    """There is no audit log where one was looked for."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} is no database of a workbench with an audit log")


class PublicUrlMissing(WorkbenchError):
    """In production nobody may be sent to an address that a request makes up: the operator has to name it."""

    def __init__(self) -> None:
        super().__init__(
            "applications cannot be let in here yet: the operator of this workbench has to set TG_PUBLIC_URL"
        )


class RateLimited(WorkbenchError):
    """More requests than are allowed in a window of time; one passes again in `retry_after` seconds."""

    def __init__(self, *, limit: int, window_seconds: int, retry_after: int) -> None:
        super().__init__(
            f"more than {limit} requests in {window_seconds} seconds; try again in {retry_after} seconds"
        )
        self.limit = limit
        self.window_seconds = window_seconds
        self.retry_after = retry_after


class TooManyAttempts(RateLimited):
    """Too many passwords were tried for one name."""

    def __init__(self, *, limit: int, window_seconds: int, retry_after: int) -> None:
        super().__init__(limit=limit, window_seconds=window_seconds, retry_after=retry_after)
        self.args = (f"too many attempts to sign in; try again in {retry_after} seconds",)


class TooManyVisits(RateLimited):
    """Too many came from one address to sign in or to register."""

    def __init__(self, *, limit: int, window_seconds: int, retry_after: int) -> None:
        super().__init__(limit=limit, window_seconds=window_seconds, retry_after=retry_after)
        self.args = (
            f"more than {limit} attempts to sign in or register came from your address in {window_seconds} "
            f"seconds; try again in {retry_after} seconds",
        )


class PasswordsBusy(RateLimited):
    """As many passwords are being looked at as the server has room for."""

    def __init__(self, retry_after: int) -> None:
        WorkbenchError.__init__(
            self, f"the server is busy with those who are signing in; try again in {retry_after} seconds"
        )
        self.retry_after = retry_after


class QuotaExceeded(WorkbenchError):
    """As many of something as one may have at a time. `what` is a plural: "active training jobs"."""

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"there are {limit} {what} already, which is the limit; wait for one to end")
        self.limit = limit


class TooManyJobs(QuotaExceeded):
    """As many jobs of one user wait or run as may. Try again once one of them has ended."""

    def __init__(self, limit: int, retry_after: int) -> None:
        super().__init__("active training jobs", limit)
        self.retry_after = retry_after


class QueueFull(WorkbenchError):
    """Too much is waiting already."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"{limit} operations are waiting for this training client already; await some of them first"
        )
        self.limit = limit


class ModelNotReady(WorkbenchError):
    """No worker of this model answers yet. Nothing was computed; the same request may be sent again."""

    def __init__(self, message: str = "this model is being made ready; send the request again") -> None:
        super().__init__(message)


class ModelBusy(ModelNotReady):
    """More is asked of this model than it has room for."""

    def __init__(self) -> None:
        super().__init__("this model has as much to answer as it has room for; send the request again")


class StorageFull(WorkbenchError):
    """The disk has no room. Nothing was half written."""

    def __init__(self) -> None:
        super().__init__(
            "the disk is full: nothing was saved and nothing was lost; free some space and try again"
        )


class DeadlineExceeded(WorkbenchError):
    """The answer is not there yet; the operation goes on and can be asked for again."""

    def __init__(self, future_id: str, message: str | None = None) -> None:
        super().__init__(message or f"not finished yet; ask for future {future_id} again")
        self.future_id = future_id


class UploadTooSlow(DeadlineExceeded):
    """What is sent comes so slowly that it keeps others from sending."""

    def __init__(self, bytes_per_second: int) -> None:
        WorkbenchError.__init__(
            self,
            f"it comes too slowly, or stopped coming: {bytes_per_second} bytes a second are the least. "
            "An upload in pieces goes on from where it is",
        )


class ValidationUnfinished(DeadlineExceeded):
    """A file could not be looked at in time. Nothing of it was kept."""

    def __init__(self) -> None:
        WorkbenchError.__init__(
            self, "the file could not be looked at in time: upload it as a dataset, which may take as long"
        )


class DatabaseUnavailable(WorkbenchError):
    """The database does not answer."""

    def __init__(self) -> None:
        super().__init__("database unavailable")


class DatabaseTooNew(WorkbenchError):
    """The database's tables are those of a later version."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"the database {path} was made by a newer tg-workbench: use that version, or another DATABASE_URL"
        )


# ----------------------------------------------------------------------------- from the SDK's side
class JobFailed(WorkbenchError):
    """A training job came to no model, as whoever waited for it is told. `reason` says why."""

    def __init__(self, job_id: str, reason: str | None) -> None:
        super().__init__(f"training job {job_id} failed: {reason or 'it does not say why'}")
        self.job_id = job_id
        self.reason = reason


class CampaignFailed(WorkbenchError):
    """A campaign of devices that was waited for came to no end. `reason` says why."""

    def __init__(self, campaign_id: str, reason: str | None) -> None:
        super().__init__(f"campaign {campaign_id} failed: {reason or 'it does not say why'}")
        self.campaign_id = campaign_id
        self.reason = reason


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


def error_named(name: str) -> type[WorkbenchError]:
    """The class that a stored record names; the root when it is none of ours."""
    families: list[type[WorkbenchError]] = [WorkbenchError]
    while families:
        family = families.pop()
        if family.__name__ == name:
            return family
        families.extend(family.__subclasses__())
    return WorkbenchError
