"""How a route obtains a room, and who is asking.

One request, one transaction: the session is opened here and committed here, before the answer is sent. GET
gets a session that reads; anything else one that writes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Header, Path, Query
from sqlmodel import Session
from starlette.requests import Request

from tg_workbench.contracts.premises import Premises, premises_of
from tg_workbench.contracts.route import PRINCIPAL
from tg_workbench.datasets import Datasets, Ledger, Uploads
from tg_workbench.errors import DeviceNotFound
from tg_workbench.events import Events
from tg_workbench.federation.devices import (
    DeviceKeys,
    Devices,
    DeviceSignIn,
    Enrollment,
    EnrollmentTokens,
    ServerKeys,
    SignedDevice,
    Terms,
)
from tg_workbench.federation.fleets import Fleets
from tg_workbench.federation.rounds import Campaigns, Letterbox, Rounds
from tg_workbench.identity import (
    ApiKeys,
    Invitations,
    Memberships,
    OAuthClients,
    Organizations,
    Principal,
    Sessions,
    Users,
)
from tg_workbench.models import ModelExports, Models
from tg_workbench.models.serving import Services
from tg_workbench.notifications import Inbox, Preferences
from tg_workbench.observability.alerts import Alerts
from tg_workbench.observability.job_statistics import JobStatistics
from tg_workbench.training import Jobs, Operations, TrainingClients
from tg_workbench.webhooks import Reach, Subscriptions


async def _premises(request: Request) -> Premises:
    return premises_of(request)


async def _signed_in(request: Request) -> Principal:
    """Whom the door has let in; asking for it behind `@public` is a mistake and fails."""
    principal: Principal = request.scope[PRINCIPAL]
    return principal


ThePremises = Annotated[Premises, Depends(_premises)]
SignedIn = Annotated[Principal, Depends(_signed_in)]


async def _transaction(request: Request, premises: ThePremises) -> AsyncIterator[Session]:
    looks = request.method in ("GET", "HEAD")
    opened = premises.database.read if looks else premises.database.write
    with opened() as session:
        yield session


Transaction = Annotated[Session, Depends(_transaction, scope="function")]
"""`scope="function"`: committed before the answer leaves, so no answer is a promise that was not kept."""


async def _clients(session: Transaction, premises: ThePremises) -> TrainingClients:
    return TrainingClients(session, premises.folder)


async def _operations(session: Transaction, premises: ThePremises) -> Operations:
    return Operations(session, premises.folder)


async def _datasets(session: Transaction, premises: ThePremises) -> Datasets:
    return Datasets(session, premises.blobs, premises.folder)


async def _uploads(session: Transaction, premises: ThePremises) -> Uploads:
    return Uploads(session, Datasets(session, premises.blobs, premises.folder))


async def _ledger(session: Transaction) -> Ledger:
    return Ledger(session)


async def _models(session: Transaction, premises: ThePremises) -> Models:
    return Models(session, premises.blobs, premises.settings.home)


async def _model_exports(session: Transaction, premises: ThePremises) -> ModelExports:
    return ModelExports(session, premises.blobs, premises.settings.home)


async def _events(session: Transaction) -> Events:
    return Events(session)


async def _api_keys(session: Transaction) -> ApiKeys:
    return ApiKeys(session)


async def _services(session: Transaction, premises: ThePremises) -> Services:
    return Services(session, premises.folder, Models(session, premises.blobs, premises.settings.home))


async def _alerts(session: Transaction) -> Alerts:
    return Alerts(session)


async def _users(session: Transaction) -> Users:
    return Users(session)


async def _organizations(session: Transaction) -> Organizations:
    return Organizations(session)


async def _memberships(session: Transaction) -> Memberships:
    return Memberships(session)


async def _invitations(session: Transaction) -> Invitations:
    return Invitations(session)


async def _oauth_clients(session: Transaction) -> OAuthClients:
    return OAuthClients(session)


async def _sessions(session: Transaction) -> Sessions:
    return Sessions(session)


async def _subscriptions(session: Transaction, premises: ThePremises) -> Subscriptions:
    return Subscriptions(session, premises.settings.home, Reach.of(premises.settings))


async def _jobs(session: Transaction, premises: ThePremises) -> Jobs:
    return Jobs(session, premises.folder, premises.settings.restart_days)


async def _job_statistics(session: Transaction, owner: SignedIn) -> JobStatistics:
    return JobStatistics(session, owner)


async def _devices(session: Transaction) -> Devices:
    return Devices(session)


async def _device_keys(session: Transaction) -> DeviceKeys:
    return DeviceKeys(session)


async def _server_keys(session: Transaction, premises: ThePremises) -> ServerKeys:
    return ServerKeys(session, premises.settings.home)


async def _enrollment_tokens(session: Transaction) -> EnrollmentTokens:
    return EnrollmentTokens(session)


async def _enrollment(session: Transaction, premises: ThePremises) -> Enrollment:
    terms = Terms(premises.settings.max_devices, premises.settings.require_device_keys)
    return Enrollment(session, premises.certificates, terms)


async def _device_sign_in(session: Transaction) -> DeviceSignIn:
    return DeviceSignIn(session)


async def _signed_in_device(request: Request, owner: SignedIn, sign_in: DeviceSignInRoom) -> SignedDevice:
    """The device that the door has let in, looked at again in this transaction: it may be revoked since.

    Where the path names a device, it is this one and no other.
    """
    found = sign_in.again(owner)
    if request.path_params.get("device_id", found.device.id) != found.device.id:
        raise DeviceNotFound
    return found


async def _fleets(session: Transaction) -> Fleets:
    return Fleets(session)


async def _campaigns(session: Transaction, premises: ThePremises) -> Campaigns:
    return Campaigns(session, premises.folder, premises.blobs, flower_python=premises.settings.flower_python)


async def _rounds(session: Transaction, premises: ThePremises) -> Rounds:
    return Rounds(session, premises.folder, premises.blobs)


async def _letterbox(round_id: RoundId, device: SignedInDevice, rounds: RoundsRoom) -> Letterbox:
    return Letterbox(rounds, device.device, round_id)


async def _inbox(session: Transaction) -> Inbox:
    return Inbox(session)


async def _preferences(session: Transaction, premises: ThePremises) -> Preferences:
    return Preferences(session, can_mail=premises.settings.smtp_url is not None)


FleetsRoom = Annotated[Fleets, Depends(_fleets, scope="function")]
CampaignsRoom = Annotated[Campaigns, Depends(_campaigns, scope="function")]
RoundsRoom = Annotated[Rounds, Depends(_rounds, scope="function")]
TheLetterbox = Annotated[Letterbox, Depends(_letterbox, scope="function")]
DevicesRoom = Annotated[Devices, Depends(_devices, scope="function")]
DeviceKeysRoom = Annotated[DeviceKeys, Depends(_device_keys, scope="function")]
ServerKeysRoom = Annotated[ServerKeys, Depends(_server_keys, scope="function")]
EnrollmentTokensRoom = Annotated[EnrollmentTokens, Depends(_enrollment_tokens, scope="function")]
EnrollmentRoom = Annotated[Enrollment, Depends(_enrollment, scope="function")]
DeviceSignInRoom = Annotated[DeviceSignIn, Depends(_device_sign_in, scope="function")]
SignedInDevice = Annotated[SignedDevice, Depends(_signed_in_device, scope="function")]
"""Whoever is behind a door that `@needs(DEVICE)`."""
ClientsRoom = Annotated[TrainingClients, Depends(_clients, scope="function")]
OperationsRoom = Annotated[Operations, Depends(_operations, scope="function")]
DatasetsRoom = Annotated[Datasets, Depends(_datasets, scope="function")]
UploadsRoom = Annotated[Uploads, Depends(_uploads, scope="function")]
LedgerRoom = Annotated[Ledger, Depends(_ledger, scope="function")]
ModelsRoom = Annotated[Models, Depends(_models, scope="function")]
ModelExportsRoom = Annotated[ModelExports, Depends(_model_exports, scope="function")]
EventsRoom = Annotated[Events, Depends(_events, scope="function")]
ApiKeysRoom = Annotated[ApiKeys, Depends(_api_keys, scope="function")]
ServicesRoom = Annotated[Services, Depends(_services, scope="function")]
AlertsRoom = Annotated[Alerts, Depends(_alerts, scope="function")]
UsersRoom = Annotated[Users, Depends(_users, scope="function")]
OrganizationsRoom = Annotated[Organizations, Depends(_organizations, scope="function")]
MembershipsRoom = Annotated[Memberships, Depends(_memberships, scope="function")]
InvitationsRoom = Annotated[Invitations, Depends(_invitations, scope="function")]
OAuthClientsRoom = Annotated[OAuthClients, Depends(_oauth_clients, scope="function")]
SessionsRoom = Annotated[Sessions, Depends(_sessions, scope="function")]
WebhooksRoom = Annotated[Subscriptions, Depends(_subscriptions, scope="function")]
JobsRoom = Annotated[Jobs, Depends(_jobs, scope="function")]
JobStatisticsRoom = Annotated[JobStatistics, Depends(_job_statistics, scope="function")]
InboxRoom = Annotated[Inbox, Depends(_inbox, scope="function")]
PreferencesRoom = Annotated[Preferences, Depends(_preferences, scope="function")]

_ID = r"^[A-Za-z0-9._:-]{1,128}$"
ClientId = Annotated[str, Path(pattern=_ID, description="A training client's id (`tc-…`).")]
FutureId = Annotated[str, Path(pattern=_ID, description="A future's id (`fut-…`).")]
DatasetId = Annotated[str, Path(pattern=_ID, description="A dataset's id (`ds-…`).")]
UploadId = Annotated[str, Path(pattern=_ID, description="An upload's id (`up-…`).")]
UpdateUploadId = Annotated[str, Path(pattern=_ID, description="The id of an update's upload (`upd-…`).")]
ServiceId = Annotated[str, Path(pattern=_ID, description="An inference service's id (`svc-…`) or name.")]
ArtifactId = Annotated[str, Path(pattern=_ID, description="A checkpoint's id (`art-…`).")]
ModelId = Annotated[str, Path(pattern=_ID, description="A model's id (`mdl-…`).")]
ApiKeyId = Annotated[str, Path(pattern=_ID, description="An API key's id (`key-…`).")]
AlertId = Annotated[str, Path(pattern=_ID, description="An alert's id (`alert-…`).")]
AlertRuleId = Annotated[str, Path(pattern=_ID, description="A rule's name, `budget_near_cap` for one.")]
UserId = Annotated[str, Path(pattern=_ID, description="A user's id.")]
OrganizationId = Annotated[str, Path(pattern=_ID, description="An organisation's id (`org_…`).")]
InvitationId = Annotated[str, Path(pattern=_ID, description="An invitation's id (`inv-…`).")]
OAuthClientId = Annotated[str, Path(pattern=_ID, description="An OAuth client's id (`app_…`).")]
SessionId = Annotated[str, Path(pattern=_ID, description="A session's id (`ses-…`).")]
WebhookId = Annotated[str, Path(pattern=_ID, description="A webhook's id (`wh-…`).")]
DeliveryId = Annotated[str, Path(pattern=_ID, description="A delivery's id (`whd-…`).")]
JobId = Annotated[str, Path(pattern=_ID, description="A job's id (`job-…`).")]
NotificationId = Annotated[str, Path(pattern=_ID, description="A notification's id (`ntf-…`).")]
RoundId = Annotated[str, Path(pattern=_ID, description="A round's id (`round_…`).")]
CampaignId = Annotated[str, Path(pattern=_ID, description="A campaign's id (`camp_…`).")]
DeviceId = Annotated[str, Path(pattern=_ID, description="A device's id (`dev_…`).")]
EnrollmentTokenId = Annotated[str, Path(pattern=_ID, description="An enrolment token's id (`enr_…`).")]
AnyId = Annotated[str | None, Query(pattern=_ID)]
AnyOrganization = Annotated[
    str | None, Query(pattern=_ID, description="Your own, or whichever the workbench's operator means.")
]

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,255}$",
        description="The same key with the same body is the same request: a retry is never done twice.",
    ),
]
Limit = Annotated[int, Query(ge=1, le=1000)]
PageNumber = Annotated[
    int, Query(ge=1, le=10**15, description="Page number; beyond the last one it is empty.")
]
Offset = Annotated[int, Query(ge=0, le=2**63 - 1)]
UploadOffset = Annotated[
    int | None, Header(alias="Upload-Offset", ge=0, le=2**53, description="How much is there already.")
]
LastEventId = Annotated[int | None, Header(alias="Last-Event-ID", ge=0, le=2**63 - 1)]
After = Annotated[int, Query(ge=0, le=2**63 - 1, description="Only what came after this id.")]
Wait = Annotated[float, Query(ge=0, le=40, description="Seconds to wait for the end.", allow_inf_nan=False)]
