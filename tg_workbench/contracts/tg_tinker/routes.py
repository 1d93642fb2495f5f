"""TG-Tinker's routes: S0-01 … S0-12, a list, and futures; S0-13 … S0-15 are the application's.

`forward_backward` and `optim_step` answer 202 with a future, and 200 when it has ended before the answer
leaves: `wait=N` gives it N seconds and answers with the future as it is then, `Prefer: wait=N` answers with
its failure as a failure. The other operations answer when they are done.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from tg_workbench.contracts.bodies import described, json_or_tensors
from tg_workbench.contracts.futures import FuturesDesk, FuturesWatch, Payload
from tg_workbench.contracts.providers import (
    ClientId,
    ClientsRoom,
    FutureId,
    IdempotencyKey,
    Limit,
    Offset,
    OperationsRoom,
    SignedIn,
    ThePremises,
    Wait,
)
from tg_workbench.contracts.route import FAILURES, public
from tg_workbench.contracts.tg_tinker import schemas, views
from tg_workbench.contracts.tg_tinker.errors import TinkerRoute
from tg_workbench.observability import health
from tg_workbench.training import Operation, OperationKind

probes = APIRouter(route_class=TinkerRoute, tags=["Health"])
router = APIRouter(prefix="/api/v1", route_class=TinkerRoute, tags=["Training"], responses=FAILURES)

STEP, SAVE = schemas.OptimStep(), schemas.SaveState()
"""What an empty body means: the document shows none."""
Rows = Annotated[Payload, Depends(json_or_tensors(schemas.ForwardBackward))]


# ----------------------------------------------------------------------------- health
@probes.get("/health", response_model_exclude_none=True, responses={503: {"model": health.Health}})
@public
async def read_health(premises: ThePremises, answer: Response) -> health.Health:
    """Health check with detailed status; 503 when something is not healthy."""
    found = await health.check(premises.database, premises.settings, premises.failing)
    answer.status_code = 200 if found.status == "healthy" else 503
    return found


@probes.get("/ready", response_model_exclude_none=True, responses={503: {"model": health.Readiness}})
@public
async def read_readiness(premises: ThePremises, answer: Response) -> health.Readiness:
    """Kubernetes readiness probe; 503 while the database is unavailable."""
    found = await health.readiness(premises.database)
    answer.status_code = 200 if found.ready else 503
    return found


@probes.get("/live")
@public
async def read_liveness() -> health.Liveness:
    """Kubernetes liveness probe. It asks nobody."""
    return health.Liveness()


@probes.get("/version")
@public
async def read_version(premises: ThePremises) -> health.Version:
    """Service version information."""
    return health.Version(environment=premises.settings.environment)


# ----------------------------------------------------------------------------- training clients
@router.post("/training_clients", status_code=201)
async def create_training_client(
    body: schemas.CreateTrainingClient, owner: SignedIn, clients: ClientsRoom, key: IdempotencyKey = None
) -> views.ClientView:
    """Create a new training client. It answers at once; the model is built behind it."""
    client = clients.create(owner, body.as_spec(), idempotency_key=key)
    return views.ClientView.of(client, clients.status_of(client))


@router.get("/training_clients")
async def list_training_clients(
    owner: SignedIn, clients: ClientsRoom, limit: Limit = 50, offset: Offset = 0
) -> views.ClientList:
    """List your training clients, the newest first."""
    page, total = clients.list_page(owner, limit=limit, offset=offset)
    shown = [views.ClientView.of(client, clients.status_of(client)) for client in page]
    return views.ClientList(training_clients=shown, total=total, limit=limit, offset=offset)


@router.get("/training_clients/{client_id}")
async def get_training_client(client_id: ClientId, owner: SignedIn, clients: ClientsRoom) -> views.ClientView:
    """Get training client details."""
    client = clients.look_at(owner, client_id)
    return views.ClientView.of(client, clients.status_of(client))


@router.delete("/training_clients/{client_id}")
async def terminate_training_client(
    client_id: ClientId, owner: SignedIn, clients: ClientsRoom
) -> views.ClientView:
    """Terminate a training client. What it has spent stays spent."""
    client = clients.terminate(owner, client_id)
    return views.ClientView.of(client, clients.status_of(client))


# ----------------------------------------------------------------------------- training operations
@router.post(
    "/training_clients/{client_id}/forward_backward",
    status_code=202,
    openapi_extra=described(schemas.ForwardBackward),
)
async def forward_backward(
    client_id: ClientId, rows: Rows, futures: FuturesDesk, answer: Response, wait: Wait = 0
) -> views.FutureView:
    """Execute a forward-backward pass; gradients add up until `optim_step`."""
    operation = await futures.place(client_id, OperationKind.FORWARD_BACKWARD, rows, wait)
    return accepted(operation, answer)


@router.post("/training_clients/{client_id}/optim_step", status_code=202)
async def optim_step(
    client_id: ClientId,
    futures: FuturesDesk,
    answer: Response,
    body: schemas.OptimStep = STEP,
    wait: Wait = 0,
) -> views.FutureView:
    """Execute an optimizer step, with DP noise where the client trains privately."""
    operation = await futures.place(client_id, OperationKind.OPTIM_STEP, Payload.of(body), wait)
    return accepted(operation, answer)


@router.post("/training_clients/{client_id}/sample")
async def sample(client_id: ClientId, body: schemas.Sample, futures: FuturesDesk) -> views.Samples:
    """Sample from the model."""
    return views.Samples(**await futures.answer(client_id, OperationKind.SAMPLE, Payload.of(body)))


# ----------------------------------------------------------------------------- state management
@router.post("/training_clients/{client_id}/save_state")
async def save_state(
    client_id: ClientId, futures: FuturesDesk, body: schemas.SaveState = SAVE
) -> views.ArtifactView:
    """Save a training checkpoint, sealed."""
    result = await futures.answer(client_id, OperationKind.SAVE_STATE, Payload.of(body))
    return views.ArtifactView(**views.dated(result))


@router.post("/training_clients/{client_id}/load_state")
async def load_state(client_id: ClientId, body: schemas.LoadState, futures: FuturesDesk) -> views.Loaded:
    """Load a training checkpoint."""
    return views.Loaded(**await futures.answer(client_id, OperationKind.LOAD_STATE, Payload.of(body)))


# ----------------------------------------------------------------------------- futures
@router.get("/futures/{future_id}")
async def get_future(future_id: FutureId, futures: FuturesWatch, wait: Wait = 0) -> views.FutureView:
    """Get a future; `wait` holds the answer until it has ended."""
    return views.FutureView.of(await futures.settled(future_id, wait))


@router.get("/futures/{future_id}/result")
async def get_future_result(future_id: FutureId, futures: FuturesWatch, wait: Wait = 0) -> views.FutureResult:
    """Get how a future ended."""
    return views.FutureResult.of(await futures.settled(future_id, wait))


@router.post("/futures/{future_id}/cancel")
async def cancel_future(future_id: FutureId, owner: SignedIn, operations: OperationsRoom) -> views.Cancelled:
    """Cancel an operation that has not begun."""
    return views.Cancelled(success=operations.cancel(owner, future_id))


def accepted(operation: Operation, answer: Response) -> views.FutureView:
    """202 while it goes on, 200 when `Prefer: wait` has brought its end."""
    answer.status_code = 202 if operation.completed_at is None else 200
    return views.FutureView.of(operation)
