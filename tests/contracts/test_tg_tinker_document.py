"""The TG-Tinker document, word for word: every route, example, header, variable and page in it is a case."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from tests.contracts import document
from tests.contracts.document import Example
from tg_workbench.settings import Settings


def shape(value: Any) -> Any:
    """Names and types; times by their form."""
    if isinstance(value, dict):
        return {name: shape(member) for name, member in value.items()}
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", value):
        return "a time without a zone, with microseconds"
    return value


def test_the_document_was_taken_apart_completely() -> None:
    assert len(document.routes()) == 12
    assert len(document.examples()) == 5
    assert len(document.headers()) == 5
    assert len(document.variables()) == 6
    assert document.pages() == ["/docs", "/redoc", "/openapi.json"]


# The 503 of /ready needs a database that does not answer: `test_process.py` replays it.
WHEN_WELL = [example for example in document.examples() if example.status == 200]


@pytest.mark.parametrize("example", WHEN_WELL, ids=lambda example: example.path)
@pytest.mark.operation("S0-01", "S0-02", "S0-03", "S0-04")
def test_every_example_is_answered_as_documented(api: httpx.Client, example: Example) -> None:
    answer = api.request(example.method, example.path)
    assert answer.status_code == example.status
    assert shape(answer.json()) == shape(example.body)


@pytest.mark.parametrize(("method", "path"), document.routes())
def test_every_documented_route_is_described(api: httpx.Client, method: str, path: str) -> None:
    described = api.get("/openapi/tg_tinker.json").json()["paths"]
    assert method.lower() in described[path]


@pytest.mark.parametrize("path", document.pages())
@pytest.mark.operation("S0-13", "S0-14", "S0-15", "S3-17", "S3-18", "S3-19")
def test_every_documented_page_is_there(stranger: httpx.Client, path: str) -> None:
    answer = stranger.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(
        "application/json" if path.endswith("json") else "text/html"
    )


@pytest.mark.parametrize(("name", "value"), document.headers().items())
def test_every_documented_header_is_on_every_answer(stranger: httpx.Client, name: str, value: str) -> None:
    in_development = None if name == "Strict-Transport-Security" else value
    for path in ("/live", "/docs", "/nowhere", "/api/v1/training_clients"):
        assert stranger.get(path).headers.get(name) == in_development


@pytest.mark.parametrize(("name", "default"), document.variables().items())
def test_every_documented_variable_has_its_default(name: str, default: str) -> None:
    unset, given = Settings.from_environment({}), Settings.from_environment({name: default})
    if name == "TG_ALLOWED_ORIGINS":  # the table names one origin, the text two
        assert unset.allowed_origins == ("http://localhost:3000", "http://localhost:5173")
        assert given.allowed_origins == ("http://localhost:3000",)
    else:
        assert given == unset
