"""The Open Inference Protocol's routes, for each service of the caller's under a server of its own.

A service has one model: it is called by its id, or as the service is.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response
from starlette.requests import Request
from starlette.responses import StreamingResponse

from tg_workbench.contracts.failures import BodyTooLarge
from tg_workbench.contracts.feeds import HEADERS
from tg_workbench.contracts.heavy import off_loop
from tg_workbench.contracts.inference import JSON, Answering, Inference, TheInference
from tg_workbench.contracts.open_inference import schemas
from tg_workbench.contracts.open_inference.errors import OPEN_INFERENCE_FAILURES, OpenInferenceRoute
from tg_workbench.contracts.providers import ServiceId
from tg_workbench.contracts.route import asks_only, needs
from tg_workbench.contracts.strict_json import MOST_BYTES, TOO_LARGE, parse
from tg_workbench.errors import InvalidRequest, ModelNotReady
from tg_workbench.models import Model
from tg_workbench.models.serving.triton import HEADER

router = APIRouter(
    prefix="/workbench/v1/inference/{service_id}/v2",
    route_class=OpenInferenceRoute,
    tags=["Open Inference Protocol"],
    responses=OPEN_INFERENCE_FAILURES,
)
MODEL = "/models/{model_name}"
VERSION = MODEL + "/versions/{model_version}"
OCTETS = "application/octet-stream"
ModelName = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9._:-]{1,128}$", description="The model's id, or its service.")
]
ModelVersion = Annotated[str, Path(pattern=r"^[A-Za-z0-9._:-]{1,128}$", description="The model's version.")]
INFER_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": {"type": "object", "required": ["inputs"]}},
            OCTETS: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


# ----------------------------------------------------------------------------- which model
async def _model(service_id: ServiceId, model_name: ModelName, desk: TheInference) -> Answering:
    return desk.answering(service_id, model_name, None)


async def _version(
    service_id: ServiceId, model_name: ModelName, model_version: ModelVersion, desk: TheInference
) -> Answering:
    return desk.answering(service_id, model_name, model_version)


TheModel = Annotated[Answering, Depends(_model)]
TheVersion = Annotated[Answering, Depends(_version)]


# ----------------------------------------------------------------------------- the server
@router.get("")
async def read_server(service_id: ServiceId, desk: TheInference) -> schemas.ServerMetadata:
    """Who answers."""
    desk.service(service_id)
    return schemas.ServerMetadata()


@router.get("/health/live", response_class=Response)
async def server_is_live(service_id: ServiceId, desk: TheInference) -> Response:
    """Whether the server answers: it does, or nobody would hear this."""
    desk.service(service_id)
    return Response()


@router.get("/health/ready", response_class=Response)
async def server_is_ready(service_id: ServiceId, desk: TheInference) -> Response:
    """Whether the service would answer now: 200, else 503."""
    return _ready(desk, service_id)


# ----------------------------------------------------------------------------- the model
@router.get(MODEL)
async def read_model(
    service_id: ServiceId, model_name: ModelName, desk: TheInference
) -> schemas.ModelMetadata:
    """What the model reads and answers."""
    return schemas.ModelMetadata.of(_described(desk, service_id, model_name), model_name)


@router.get(VERSION)
async def read_model_version(
    service_id: ServiceId, model_name: ModelName, model_version: ModelVersion, desk: TheInference
) -> schemas.ModelMetadata:
    """The same, of one version."""
    return schemas.ModelMetadata.of(_described(desk, service_id, model_name, model_version), model_name)


@router.get(MODEL + "/ready", response_class=Response)
async def model_is_ready(service_id: ServiceId, model_name: ModelName, desk: TheInference) -> Response:
    """Whether the model would answer now: 200, else 503."""
    _described(desk, service_id, model_name)
    return _ready(desk, service_id)


@router.get(VERSION + "/ready", response_class=Response)
async def model_version_is_ready(
    service_id: ServiceId, model_name: ModelName, model_version: ModelVersion, desk: TheInference
) -> Response:
    """The same, of one version."""
    _described(desk, service_id, model_name, model_version)
    return _ready(desk, service_id)


# ----------------------------------------------------------------------------- questions
@router.post(MODEL + "/infer", openapi_extra=INFER_BODY, response_class=Response)
@needs("read")
@asks_only
async def infer(asked: TheModel, request: Request, desk: TheInference) -> Response:
    """Ask the model about tensors, in JSON or raw behind JSON."""
    return await _infer(asked, request, desk)


@router.post(VERSION + "/infer", openapi_extra=INFER_BODY, response_class=Response)
@needs("read")
@asks_only
async def infer_version(asked: TheVersion, request: Request, desk: TheInference) -> Response:
    """The same, of one version."""
    return await _infer(asked, request, desk)


@router.post(MODEL + "/generate")
@needs("read")
@asks_only
async def generate(asked: TheModel, body: schemas.Generate, desk: TheInference) -> schemas.Generated:
    """Have a language model write on from a text (Triton's generate extension)."""
    return schemas.Generated.of(asked, await desk.generate(asked, body.as_question()))


@router.post(VERSION + "/generate")
@needs("read")
@asks_only
async def generate_version(
    asked: TheVersion, body: schemas.Generate, desk: TheInference
) -> schemas.Generated:
    """The same, of one version."""
    return schemas.Generated.of(asked, await desk.generate(asked, body.as_question()))


@router.post(MODEL + "/generate_stream", response_class=StreamingResponse)
@needs("read")
@asks_only
async def generate_stream(asked: TheModel, body: schemas.Generate, desk: TheInference) -> StreamingResponse:
    """The same text, piece by piece, as server-sent events. Who hangs up is not written for any more."""
    return await _stream(asked, body, desk)


@router.post(VERSION + "/generate_stream", response_class=StreamingResponse)
@needs("read")
@asks_only
async def generate_stream_version(
    asked: TheVersion, body: schemas.Generate, desk: TheInference
) -> StreamingResponse:
    """The same, of one version."""
    return await _stream(asked, body, desk)


# ----------------------------------------------------------------------------- inside
def _described(desk: Inference, service_id: str, name: str, version: str | None = None) -> Model:
    return desk.described(service_id, name, version)


def _ready(desk: Inference, service_id: str) -> Response:
    service, standing = desk.service(service_id)
    if standing.status != "ready":
        raise ModelNotReady(service.reason or f"this inference service is {standing.status}")
    return Response()


async def _infer(asked: Answering, request: Request, desk: Inference) -> Response:
    body = await request.body()
    json_bytes = await _json_bytes(request, body)
    answer = await desk.infer(asked, body, json_bytes)
    head: int = answer.header["json_bytes"]
    if head == len(answer.payload):
        return Response(answer.payload, media_type=JSON)
    return Response(answer.payload, headers={HEADER: str(head)}, media_type=OCTETS)


async def _json_bytes(request: Request, body: bytes) -> int:
    """How much of the body is JSON: an object, read strictly. Raises InvalidRequest, BodyTooLarge."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise InvalidRequest("send the body as it is: no Content-Encoding is taken")
    said = request.headers.get(HEADER, str(len(body)))
    if not (said.isascii() and said.isdigit() and len(said) < 12 and int(said) <= len(body)):
        raise InvalidRequest(f"{HEADER} says how many bytes of the body are JSON")
    if int(said) > MOST_BYTES:
        raise BodyTooLarge(TOO_LARGE)
    try:
        value = await off_loop(request, parse, body[: int(said)])
    except ValueError:
        raise InvalidRequest("the body does not begin with an object in valid JSON") from None
    if not isinstance(value, dict):
        raise InvalidRequest("the body does not begin with an object in valid JSON")
    return int(said)


async def _stream(asked: Answering, body: schemas.Generate, desk: Inference) -> StreamingResponse:
    pieces = await desk.generate_stream(asked, body.as_question())
    return StreamingResponse(schemas.events_of(asked, pieces), 200, HEADERS, "text/event-stream")
