"""The OpenAPI documents: one of everything, and one per contract. Made when first asked for.

**Why** a server has a child make them: describing every body and answer takes a tenth of the memory that the
API has, and none of it is needed again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import selectors
import signal
import time
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from tg_workbench.contracts.route import ContractRoute
from tg_workbench.contracts.tg_tinker.schemas import ForwardBackward
from tg_workbench.contracts.workbench.schemas import Evaluate, Predict, Texts

CHILD_SECONDS = 20.0
"""How long a child may take; what it has not done then is done here."""
READ_BY_HAND: list[type[BaseModel]] = [ForwardBackward, Evaluate, Predict, Texts]
"""Bodies that FastAPI does not see, because they also come as tensors."""
SECURITY: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key or an access token."},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


class Documents:
    """The OpenAPI documents of an application."""

    def __init__(self, app: FastAPI, routes: list[ContractRoute]) -> None:
        self.app = app
        self.routes = routes
        self.contracts = {route.contract.name: route.contract for route in routes}
        self._printed: dict[str | None, bytes] = {}
        self._printing = asyncio.Lock()

    def document(self, name: str | None = None) -> dict[str, Any]:
        """The document of one contract, or of all, made anew."""
        chosen = [route for route in self.routes if name in (None, route.contract.name)]
        title = self.app.title if name is None else self.contracts[name].title
        document = get_openapi(
            title=title, version=self.app.version, description=self.app.description, routes=chosen
        )
        document["servers"] = [{"url": "./" if name is None else "../"}]  # from where the document was read
        components = document.setdefault("components", {})
        components["schemas"] = {**_read_by_hand(document), **components.get("schemas", {})}
        components["securitySchemes"] = SECURITY
        for route in chosen:
            for method in (route.methods or ()) if not route.is_public else ():
                document["paths"][route.path_format][method.lower()]["security"] = [
                    {scheme: []} for scheme in SECURITY
                ]
        return document

    async def printed(self, contract: str | None = None) -> bytes:
        """The same in JSON, made by a child: as objects it takes many times the room."""

        def made() -> bytes:
            return json.dumps(self.document(contract), ensure_ascii=False, separators=(",", ":")).encode()

        async with self._printing:
            if contract not in self._printed:
                by_a_child: bytes | None = await asyncio.to_thread(_by_a_child, made)
                self._printed[contract] = by_a_child or made()
        return self._printed[contract]


def _read_by_hand(document: dict[str, Any]) -> dict[str, Any]:
    """The schemas of those bodies that `document` names and FastAPI left out."""
    text = json.dumps(document["paths"])
    named = [form for form in READ_BY_HAND if f'"#/components/schemas/{form.__name__}"' in text]
    template = "#/components/schemas/{model}"
    _, schemas = models_json_schema([(form, "validation") for form in named], ref_template=template)
    found: dict[str, Any] = schemas.get("$defs", {})
    return found


def _by_a_child(make: Callable[[], bytes]) -> bytes | None:
    """What a forked child has made; None where it could not, or took too long."""
    ours, theirs = os.pipe()
    try:
        child = os.fork()
    except OSError:
        os.close(ours)
        os.close(theirs)
        return None
    if child == 0:
        code = 1
        try:
            gc.disable()  # what it would look through is the parent's, and shared until it is touched
            with os.fdopen(theirs, "wb") as pipe:
                pipe.write(make())
            code = 0
        finally:
            os._exit(code)
    os.close(theirs)
    made = _read(ours, time.monotonic() + CHILD_SECONDS)
    if made is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return made if status == 0 else None


def _read(pipe: int, deadline: float) -> bytes | None:
    """Everything that comes; None when it has not ended in time."""
    parts: list[bytes] = []
    with os.fdopen(pipe, "rb", buffering=0) as reader, selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            part = reader.read(65_536)
            if not part:
                return b"".join(parts)
            parts.append(part)
    return None
