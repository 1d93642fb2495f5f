"""Our own routes, under /workbench/v1: runs, live events, the ledger, API keys, the audit log."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from starlette.requests import Request
from starlette.responses import StreamingResponse

from tg_workbench.contracts.audit import AskedAudit, AuditEntryView, AuditRoom
from tg_workbench.contracts.bodies import described, json_or_tensors
from tg_workbench.contracts.feeds import feed
from tg_workbench.contracts.futures import FuturesDesk, Payload
from tg_workbench.contracts.providers import (
    After,
    AnyId,
    ApiKeyId,
    ApiKeysRoom,
    ArtifactId,
    ClientId,
    ClientsRoom,
    DatasetsRoom,
    EventsRoom,
    IdempotencyKey,
    LastEventId,
    LedgerRoom,
    Limit,
    Offset,
    SignedIn,
    ThePremises,
)
from tg_workbench.contracts.route import FAILURES, asks_only, audited, needs
from tg_workbench.contracts.tg_tinker import views
from tg_workbench.contracts.tg_tinker.errors import WorkbenchRoute
from tg_workbench.contracts.tg_tinker.routes import accepted
from tg_workbench.contracts.workbench import plans, schemas
from tg_workbench.datasets import Datasets, Ledger
from tg_workbench.errors import InvalidRequest
from tg_workbench.training import OperationKind
from tg_workbench.training.planning import ask_planner

router = APIRouter(prefix="/workbench/v1", route_class=WorkbenchRoute, tags=["Workbench"], responses=FAILURES)

CLIENT = "/training_clients/{client_id}"
EvaluationRows = Annotated[Payload, Depends(json_or_tensors(schemas.Evaluate))]
PredictionRows = Annotated[Payload, Depends(json_or_tensors(schemas.Predict))]


# ----------------------------------------------------------------------------- runs
@router.post(CLIENT + "/train", status_code=202)
async def train(
    client_id: ClientId, body: schemas.Train, futures: FuturesDesk, answer: Response
) -> schemas.RunView:
    """Start a run on the server: it goes on while the notebook does something else."""
    operation = await futures.place(client_id, OperationKind.TRAIN, Payload.of(body))
    return schemas.RunView(
        **dict(accepted(operation, answer)), after_event=futures.last_event_before(operation)
    )


@router.post(CLIENT + "/evaluate", openapi_extra=described(schemas.Evaluate))
async def evaluate(client_id: ClientId, rows: EvaluationRows, futures: FuturesDesk) -> schemas.Evaluation:
    """Loss and accuracy on rows of your own or on a public dataset; protected ones are refused."""
    return schemas.Evaluation(**await futures.answer(client_id, OperationKind.EVALUATE, rows))


@router.post(CLIENT + "/predict", openapi_extra=described(schemas.Predict))
async def predict(client_id: ClientId, rows: PredictionRows, futures: FuturesDesk) -> schemas.Predictions:
    """Ask the model about rows."""
    return schemas.Predictions(**await futures.answer(client_id, OperationKind.PREDICT, rows))


@router.post(CLIENT + "/audit", status_code=202)
async def audit(
    client_id: ClientId, body: schemas.Audit, futures: FuturesDesk, answer: Response
) -> views.FutureView:
    """Measure how much a client's training reveals at least."""
    return accepted(await futures.place(client_id, OperationKind.AUDIT, Payload.of(body)), answer)


@router.post(CLIENT + "/pause")
async def pause(client_id: ClientId, owner: SignedIn, clients: ClientsRoom) -> views.ClientView:
    """Hold the client at the next step border."""
    client = clients.pause(owner, client_id)
    return views.ClientView.of(client, clients.status_of(client))


@router.post(CLIENT + "/resume")
async def resume(client_id: ClientId, owner: SignedIn, clients: ClientsRoom) -> views.ClientView:
    """Let a paused client go on."""
    client = clients.resume(owner, client_id)
    return views.ClientView.of(client, clients.status_of(client))


@router.post(CLIENT + "/stop")
async def stop(client_id: ClientId, owner: SignedIn, clients: ClientsRoom) -> views.ClientView:
    """End the running `train` at the next step border, or the running `audit`; the client stays usable."""
    client = clients.stop(owner, client_id)
    return views.ClientView.of(client, clients.status_of(client))


# ----------------------------------------------------------------------------- what happened
@router.get(CLIENT + "/events", response_class=StreamingResponse)
async def follow(
    client_id: ClientId,
    owner: SignedIn,
    clients: ClientsRoom,
    request: Request,
    after: After = 0,
    last_event_id: LastEventId = None,
) -> StreamingResponse:
    """Follow a client live (server-sent events). A reader that comes back says what it has seen.

    An event `end` comes last, once the client has ended and everything it was asked is answered.
    """
    clients.get(owner, client_id)
    return feed(request, client_id, after if last_event_id is None else last_event_id)


@router.get(CLIENT + "/history")
async def list_history(
    client_id: ClientId,
    owner: SignedIn,
    clients: ClientsRoom,
    events: EventsRoom,
    after: After = 0,
    limit: Limit = 500,
) -> schemas.EventList:
    """The same events, a page at a time."""
    clients.get(owner, client_id)
    rows = events.after(client_id, after, limit)
    return schemas.EventList(events=[views.message_of(row) for row in rows])


@router.get(CLIENT + "/artifacts")
async def list_artifacts(
    client_id: ClientId, owner: SignedIn, clients: ClientsRoom, limit: Limit = 50, offset: Offset = 0
) -> schemas.ArtifactList:
    """A client's checkpoints, the newest first."""
    page, total = clients.artifacts(owner, client_id, limit=limit, offset=offset)
    shown = [schemas.ArtifactNote.of(artifact) for artifact in page]
    return schemas.ArtifactList(artifacts=shown, total=total, limit=limit, offset=offset)


@router.get(
    "/artifacts/{artifact_id}/export",
    response_class=Response,
    responses={200: {"content": {"application/zip": {}}, "description": "The files, in a zip."}},
)
@audited
async def export_artifact(artifact_id: ArtifactId, owner: SignedIn, premises: ThePremises) -> Response:
    """A checkpoint as the files other programs read: adapters as `peft` writes them, or plain weights.

    Unsealed: whoever has the answer has the weights. What they cost is in `privacy.json` beside them.
    """

    def archive() -> bytes:
        from tg_workbench.training.exports import Exports  # here: the start need not wait for cryptography

        with premises.database.read() as session:
            return Exports(session, premises.blobs, premises.settings.home).archive(owner, artifact_id)

    async with premises.heavy:
        content = await asyncio.to_thread(archive)
    named = {"Content-Disposition": f'attachment; filename="{artifact_id}.zip"'}
    return Response(content, 200, named, "application/zip")


@router.get("/ledger")
async def read_ledger(
    owner: SignedIn,
    clients: ClientsRoom,
    datasets: DatasetsRoom,
    ledger: LedgerRoom,
    dataset_id: AnyId = None,
    training_client_id: AnyId = None,
    after: After = 0,
    limit: Limit = 100,
) -> schemas.LedgerPage:
    """Every noisy release of a dataset, deleted ones included, or of a client, and what they add up to."""
    if (dataset_id is None) == (training_client_id is None):
        raise InvalidRequest("ask for the ledger of a dataset_id or of a training_client_id")
    dataset = datasets.get(owner, dataset_id, even_deleted=True) if dataset_id else None
    client = clients.get(owner, training_client_id) if training_client_id else None
    population = dataset.population if dataset else None
    events = ledger.page(population=population, client_id=training_client_id, after=after, limit=limit)
    return schemas.LedgerPage.of(events, dataset, client)


@router.post("/plans")
@needs("read")
@asks_only
async def plan_run(body: plans.AskPlan, owner: SignedIn, premises: ThePremises) -> plans.PlanView:
    """What a run would cost, and how many steps a dataset's cap allows. Asking costs nothing."""
    with premises.database.read() as session:
        rooms = Datasets(session, premises.blobs), Ledger(session)
        dataset = rooms[0].get(owner, body.dataset_id, ready=True) if body.dataset_id is not None else None
        protected = dataset is not None and dataset.privacy == "protected"
        spent = rooms[1].of_subject(dataset.population) if dataset is not None and protected else {}
    question = body.question(dataset, spent)
    async with premises.heavy:
        unit = dataset.unit if dataset is not None else "example"
        return plans.PlanView.of(await ask_planner(question), question["cap"], unit)


# ----------------------------------------------------------------------------- API keys
@router.post("/api_keys", status_code=201)
@needs("keys")
async def issue_api_key(
    body: schemas.IssueApiKey, owner: SignedIn, keys: ApiKeysRoom, key: IdempotencyKey = None
) -> schemas.IssuedApiKey:
    """Issue an API key, as a person who is signed in. Its secret is in this answer and nowhere else."""
    issued, secret = keys.issue(
        owner, body.name, body.meant, expires_in_days=body.expires_in_days, idempotency_key=key
    )
    return schemas.IssuedApiKey.of_new(issued, secret)


@router.get("/api_keys")
@needs("keys")
async def list_api_keys(
    owner: SignedIn, keys: ApiKeysRoom, limit: Limit = 50, offset: Offset = 0
) -> schemas.ApiKeyList:
    """List your API keys, without their secrets."""
    page, total = keys.list_page(owner, limit=limit, offset=offset)
    shown = [schemas.ApiKeyView.of(key) for key in page]
    return schemas.ApiKeyList(api_keys=shown, total=total, limit=limit, offset=offset)


@router.delete("/api_keys/{key_id}")
@needs("keys")
async def revoke_api_key(key_id: ApiKeyId, owner: SignedIn, keys: ApiKeysRoom) -> schemas.Deleted:
    """Revoke an API key, now and for good."""
    keys.revoke(owner, key_id)
    return schemas.Deleted()


# ----------------------------------------------------------------------------- the audit log
@router.get("/audit")
@needs("audit")
@audited
async def read_audit_log(
    owner: SignedIn, audit: AuditRoom, asked: AskedAudit, limit: Limit = 50, offset: Offset = 0
) -> schemas.AuditPage:
    """Who did what in your organisation, the newest first. Reading it is recorded too."""
    page, total = audit.list_page(owner.tenant_id, asked, limit=limit, offset=offset)
    shown = [AuditEntryView.of(entry) for entry in page]
    return schemas.AuditPage(entries=shown, total=total, limit=limit, offset=offset)
