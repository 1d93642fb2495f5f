"""The pages for people need nothing from outside this machine."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.contracts.doors import PUBLIC
from tg_workbench.app import contract_routes

CONTRACTS = sorted({route.contract.name for route in contract_routes()})
PAGES = ["/", "/docs", "/redoc"]
HTML = {"Accept": "text/html,application/xhtml+xml"}


@pytest.mark.parametrize("path", PAGES)
def test_a_page_names_only_addresses_of_ours_and_all_of_them_answer(
    stranger: httpx.Client, path: str
) -> None:
    page = stranger.get(path, headers=HTML).text
    addresses = re.findall(r'(?:href|src|spec-url)="([^"]+)"', page)
    assert addresses
    assert "//" not in page.replace("<!DOCTYPE html>", "")
    for address in addresses:
        assert not address.startswith("/"), "behind a proxy an absolute path would miss"
        assert stranger.get(f"/{address}", headers=HTML).status_code == 200


@pytest.mark.parametrize("path", PAGES)
def test_a_page_keeps_scripts_and_connections_to_itself(stranger: httpx.Client, path: str) -> None:
    answer = stranger.get(path, headers=HTML)
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "connect-src 'self';" in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"<script>|\son\w+=", answer.text)


@pytest.mark.operation("S3-01")
def test_the_root_welcomes_a_program_in_the_documents_words(stranger: httpx.Client) -> None:
    answer = stranger.get("/", headers={"Accept": "*/*"})
    assert answer.json() == {"message": "Welcome to the Deep Learning Platform"}


@pytest.mark.parametrize("name", ["../__init__.py", "%2e%2e/core.py", "nothing.js", "..%5c__init__.py"])
def test_no_other_file_is_handed_out(stranger: httpx.Client, name: str) -> None:
    assert stranger.get(f"/docs-assets/{name}").status_code == 404


@pytest.mark.operation("S0-15", "S3-17")
def test_there_is_one_openapi_document_per_contract(stranger: httpx.Client) -> None:
    whole = stranger.get("/openapi.json").json()
    parts = [stranger.get(f"/openapi/{name}.json").json() for name in CONTRACTS]
    assert whole["openapi"].startswith("3.1")
    assert {path for part in parts for path in part["paths"]} == set(whole["paths"])
    assert sum(len(part["paths"]) for part in parts) == len(whole["paths"])
    assert stranger.get("/openapi/nothing.json").status_code == 404


def test_every_closed_operation_says_how_to_sign_in(stranger: httpx.Client) -> None:
    document = stranger.get("/openapi.json").json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "api_key"}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert ("security" in operation) == (f"{method.upper()} {path}" not in PUBLIC)


def test_no_reference_in_the_openapi_document_leads_nowhere(stranger: httpx.Client) -> None:
    answer = stranger.get("/openapi.json")
    schemas = answer.json()["components"]["schemas"]
    for name in re.findall(r'"#/components/schemas/([^"]+)"', answer.text):
        assert name in schemas
    assert not re.findall(r'"#/\$defs', answer.text)


def test_redoc_does_not_fetch_its_makers_logo(stranger: httpx.Client) -> None:
    script = stranger.get("/docs-assets/redoc.standalone.js").text
    assert len(script) > 500_000
    assert "cdn.redoc.ly" not in script
