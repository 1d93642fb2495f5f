"""Twelve thousand requests that nobody should send, over every operation there is.

No answer is a 5xx, none has another document's envelope, none repeats what was sent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.contracts.envelopes import refusal_at
from tests.contracts.malformed import SECRET, TEXTS, WHOLE, Malformed, Operation
from tests.workbench_server import WorkbenchServer
from tg_workbench.app import contract_routes
from tg_workbench.contracts.route import ContractRoute
from tg_workbench.contracts.table import PREFIXES, contract_name_at

ROUTES = contract_routes()
TOGETHER = 12_000
EACH = math.ceil(TOGETHER / len(ROUTES))


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    """A workbench of its own: what these tests leave behind troubles nobody."""
    server = WorkbenchServer()
    with server.client() as http:
        yield http
    server.stop()


@pytest.fixture(scope="module")
def document(http: httpx.Client) -> dict[str, Any]:
    """What the workbench says of itself."""
    return dict(http.get("/openapi.json").json())


def send(http: httpx.Client, one: Malformed) -> httpx.Response:
    """Send it as it is; a header of its own comes instead of the client's."""
    return http.request(one.method, one.target, headers=one.headers, content=one.content)


def check(answer: httpx.Response, contract: str, one: Malformed) -> None:
    """What every answer has to keep to. OAuth's routes speak as its standards do, or to a person."""
    assert answer.status_code < 500, (one, answer.text)
    path = one.target.partition("?")[0]
    if answer.status_code >= 400:
        refusal_at(path, answer, contract)
    assert SECRET not in answer.text, one
    assert SECRET not in str(answer.headers), one
    assert "x-evil" not in answer.headers, one


def name_of(route: ContractRoute) -> str:
    return f"{','.join(route.methods or ())} {route.path}"


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
def test_what_is_malformed_is_the_callers_error(
    http: httpx.Client, document: dict[str, Any], route: ContractRoute
) -> None:
    operation = Operation(route, document)
    refused = 0
    for one in operation.malformed(EACH):
        answer = send(http, one)
        check(answer, route.contract.name, one)
        refused += answer.status_code >= 400
    assert refused or route.is_public


@pytest.mark.parametrize("prefix", [prefix.rstrip("/") for prefix in PREFIXES])
def test_it_is_where_nothing_is_served_too(http: httpx.Client, prefix: str) -> None:
    """Each prefix gets every text and every body, and every text meets every body somewhere."""
    bodies, rank = WHOLE[:12], list(PREFIXES).index(prefix or "/")
    assert len(bodies) <= min(len(PREFIXES), len(TEXTS))
    for number, text in enumerate(TEXTS):
        content = bodies[(rank + number) % len(bodies)]
        one = Malformed("POST", f"{prefix}/no/where/{text}?{text}={text}", {}, content)
        check(send(http, one), contract_name_at(f"{prefix}/no/where"), one)


def test_the_workbench_is_well_after_all_that(http: httpx.Client) -> None:
    assert http.get("/health").json()["status"] == "healthy"
    assert http.get("/api/v1/training_clients").status_code == 200
