"""The OpenAPI documents: one of everything, and one per contract. Made when first asked for."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from tg_workbench.contracts.route import ContractRoute
from tg_workbench.contracts.tg_tinker.schemas import ForwardBackward
from tg_workbench.contracts.workbench.schemas import Evaluate, Predict, Texts

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
        self._written: dict[str | None, bytes] = {}

    def text(self, contract: str | None = None) -> bytes:
        """The document of one contract, or of all, in JSON.

        That is what is kept: as objects it takes many times the room.
        """
        if contract not in self._written:
            told = json.dumps(self.document(contract), ensure_ascii=False, separators=(",", ":"))
            self._written[contract] = told.encode()
        return self._written[contract]

    def document(self, name: str | None = None) -> dict[str, Any]:
        """The same as objects, made anew."""
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


def _read_by_hand(document: dict[str, Any]) -> dict[str, Any]:
    """The schemas of those bodies that `document` names and FastAPI left out."""
    text = json.dumps(document["paths"])
    named = [form for form in READ_BY_HAND if f'"#/components/schemas/{form.__name__}"' in text]
    template = "#/components/schemas/{model}"
    _, schemas = models_json_schema([(form, "validation") for form in named], ref_template=template)
    found: dict[str, Any] = schemas.get("$defs", {})
    return found
