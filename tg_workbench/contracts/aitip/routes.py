"""AITIP's routes: S1-01 … S1-03."""

from __future__ import annotations

from fastapi import APIRouter, Response

from tg_workbench.contracts.accounts import UNSTORED
from tg_workbench.contracts.aitip import schemas
from tg_workbench.contracts.aitip.errors import AITIP_FAILURES, AitipRoute
from tg_workbench.contracts.front_desk import TheDesk
from tg_workbench.contracts.providers import SignedIn, UsersRoom
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
