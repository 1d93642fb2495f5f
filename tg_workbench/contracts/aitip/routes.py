"""AITIP's routes: S1-01 … S1-03 and S1-12 … S1-15."""

from __future__ import annotations

from fastapi import APIRouter, Response

from tg_workbench.contracts.accounts import UNSTORED
from tg_workbench.contracts.aitip import schemas
from tg_workbench.contracts.aitip.errors import AITIP_FAILURES, AitipRoute
from tg_workbench.contracts.front_desk import TheDesk
from tg_workbench.contracts.inference import TheInference
from tg_workbench.contracts.providers import ServiceId, ServicesRoom, SignedIn, UsersRoom
from tg_workbench.contracts.route import public

router = APIRouter(prefix="/api/v1", route_class=AitipRoute, tags=["AITIP"], responses=AITIP_FAILURES)


# ----------------------------------------------------------------------------- authentication
@router.post("/auth/register", status_code=201)
@public
async def register(
    body: schemas.Register, desk: TheDesk, answer: Response
) -> schemas.Success[schemas.SignedInView]:
    """Register, and be signed in."""
    user = await desk.register(body.as_application())
    answer.headers.update(UNSTORED)
    return schemas.Success(data=schemas.SignedInView.of(desk.admit(user.id)))


@router.post("/auth/login")
@public
async def log_in(
    body: schemas.SignIn, desk: TheDesk, answer: Response
) -> schemas.Success[schemas.SignedInView]:
    """Log in by e-mail address."""
    admission = await desk.sign_in(body.email, body.password)
    answer.headers.update(UNSTORED)
    return schemas.Success(data=schemas.SignedInView.of(admission))


@router.get("/auth/me")
async def read_current_user(owner: SignedIn, users: UsersRoom) -> schemas.Success[schemas.UserView]:
    """Get the current user."""
    return schemas.Success(data=schemas.UserView.of(users.of(owner), owner))


# ----------------------------------------------------------------------------- inference services
@router.get("/inference/services")
async def list_services(
    owner: SignedIn, services: ServicesRoom, page: schemas.Page = 1, page_size: schemas.PageSize = 20
) -> schemas.PageOf[schemas.ServiceView]:
    """List your inference services, the newest first."""
    found, total = services.list_page(owner, limit=page_size, offset=(page - 1) * page_size)
    shown = [schemas.ServiceView.of(service, services.standing(service)) for service in found]
    return schemas.PageOf(data=shown, meta=schemas.Meta(page=page, page_size=page_size, total=total))


@router.post("/inference/services", status_code=201)
async def create_service(
    body: schemas.CreateService, owner: SignedIn, desk: TheInference
) -> schemas.Success[schemas.ServiceView]:
    """Create an inference service. It is stopped until it is started."""
    on_triton = await desk.on_triton(body.model_id, body.runtime)
    with desk.changing() as services:
        service = services.create(owner, body.as_spec(), on_triton=on_triton)
        return schemas.Success(data=schemas.ServiceView.of(service, services.standing(service)))


@router.post("/inference/services/{service_id}/start")
async def start_service(
    service_id: ServiceId, owner: SignedIn, desk: TheInference
) -> schemas.Success[schemas.ServiceView]:
    """Start a service: it gets a worker now, and whenever somebody asks and it has none."""
    service, _ = desk.service(service_id)
    on_triton = await desk.on_triton(service.model_id, service.runtime)
    with desk.changing() as services:
        service = services.start(owner, service_id, on_triton=on_triton)
        return schemas.Success(data=schemas.ServiceView.of(service, services.standing(service)))


@router.post("/inference/services/{service_id}/stop")
async def stop_service(
    service_id: ServiceId, owner: SignedIn, services: ServicesRoom
) -> schemas.Success[schemas.ServiceView]:
    """Stop a service: what it was asked is answered, and its workers leave."""
    service = services.stop(owner, service_id)
    return schemas.Success(data=schemas.ServiceView.of(service, services.standing(service)))
