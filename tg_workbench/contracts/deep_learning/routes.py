"""The Deep Learning Platform's routes: S3-02 … S3-04 and S3-15; S3-01 is the home page."""

from __future__ import annotations

from fastapi import APIRouter, Response

from tg_workbench.contracts.accounts import UNSTORED
from tg_workbench.contracts.deep_learning import schemas
from tg_workbench.contracts.deep_learning.errors import DEEP_LEARNING_FAILURES, DeepLearningRoute
from tg_workbench.contracts.front_desk import TheDesk
from tg_workbench.contracts.inference import RowsAsked, TheInference
from tg_workbench.contracts.providers import ModelId
from tg_workbench.contracts.route import asks_only, needs, public

router = APIRouter(
    route_class=DeepLearningRoute, tags=["Deep Learning Platform"], responses=DEEP_LEARNING_FAILURES
)


# ----------------------------------------------------------------------------- authentication
@router.post("/auth/register", status_code=201)
@public
async def register(body: schemas.Register, desk: TheDesk) -> schemas.UserView:
    """Register a new user account."""
    return schemas.UserView.of(await desk.register(body.as_application()))


@router.post("/auth/login")
@public
async def log_in(body: schemas.SignIn, desk: TheDesk, answer: Response) -> schemas.Tokens:
    """Authenticate by user name and receive tokens."""
    admission = await desk.sign_in(body.username, body.password)
    answer.headers.update(UNSTORED)
    return schemas.Tokens.of(admission)


@router.post("/auth/refresh")
@public
async def refresh(body: schemas.Refresh, desk: TheDesk, answer: Response) -> schemas.Tokens:
    """Refresh an access token. The `refresh_token` beside it is ours: a client that uses it rotates."""
    answer.headers.update(UNSTORED)
    return schemas.Tokens.of(desk.refresh(body.refresh_token))


# ----------------------------------------------------------------------------- models
@router.post("/models/{model_id}/predict", openapi_extra=schemas.ROWS, response_model=schemas.Predictions)
@needs("read")
@asks_only
async def predict(model_id: ModelId, rows: RowsAsked, desk: TheInference) -> Response:
    """Make predictions: of one row, `input`, or of several, `inputs`. A row may name its columns."""
    return await desk.predict(model_id, rows)
