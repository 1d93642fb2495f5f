"""Bodies that come as JSON or, faster, as tensors: one reader for both, and the words OpenAPI has for it.

Only the header of tensors is looked at here; their numbers are checked by the worker that uses them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from tg_workbench.contracts.futures import Payload
from tg_workbench.contracts.heavy import off_loop
from tg_workbench.datasets import COLUMNS, read_header
from tg_workbench.errors import InvalidBatch

SAFETENSORS = "application/vnd.safetensors"
_JSON = re.compile(r"application/(?:[a-z0-9.+-]+\+)?json")
Form = TypeVar("Form", bound=BaseModel)


def json_or_tensors(form: type[BaseModel]) -> Callable[[Request], Awaitable[Payload]]:
    """A dependency that reads JSON of `form`, or safetensors bytes that hold a batch and nothing else."""

    async def payload(request: Request) -> Payload:
        if media_type(request) != SAFETENSORS:
            read = await read_json(request, form)
            return await off_loop(request, Payload.of, read)
        content = await request.body()
        tensors = read_header(content)
        if not tensors or not tensors.keys() <= COLUMNS:
            raise InvalidBatch(f"the tensors of a batch are named {', '.join(sorted(COLUMNS))}")
        return Payload(content, SAFETENSORS)

    return payload


async def read_json(request: Request, form: type[Form]) -> Form:
    """The body as `form`. Raises RequestValidationError, BodyTooLarge."""
    value = await read_value(request)
    try:
        return await off_loop(request, form.model_validate, value)
    except ValidationError as failure:
        errors = failure.errors(include_url=False, include_input=False, include_context=False)
        problems = [{**error, "loc": ("body", *error["loc"])} for error in errors]
        raise RequestValidationError(problems) from None


async def read_value(request: Request) -> Any:
    """The JSON in the body, whatever it is. Raises RequestValidationError, BodyTooLarge."""
    if not _JSON.fullmatch(media_type(request)):
        # Also a matter of safety: a browser asks before it sends this type to another site, and only then.
        raise RequestValidationError([{"type": "model_type", "loc": ("body",), "msg": ""}])
    try:
        return await request.json()
    except json.JSONDecodeError as failure:
        problem = {"type": "json_invalid", "loc": ("body",), "msg": "", "ctx": {"error": failure.msg}}
        raise RequestValidationError([problem]) from None


def media_type(request: Request) -> str:
    """What a request says its body is, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def described(form: type[BaseModel], *, tensors: bool = True) -> dict[str, Any]:
    """The OpenAPI words for such a body."""
    content: dict[str, Any] = {
        "application/json": {"schema": {"$ref": f"#/components/schemas/{form.__name__}"}}
    }
    if tensors:
        content[SAFETENSORS] = {"schema": {"type": "string", "format": "binary"}}
    return {"requestBody": {"required": True, "content": content}}
