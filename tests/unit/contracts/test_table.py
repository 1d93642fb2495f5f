"""A path that no router knows is answered in the words of the document it would belong to."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from tests.contracts.envelopes import refusal
from tg_workbench.app import contract_routes
from tg_workbench.contracts.edges import Edge, LastResort
from tg_workbench.contracts.table import PREFIXES, contract_name_at
from tg_workbench.settings import Settings


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/api/v1/training_clients", "tg_tinker"),
        ("/api/v1/training_clients/tc-1/nothing", "tg_tinker"),
        ("/api/v1/training_clients_of_mine", "qflare"),
        ("/api/v1/training/jobs", "aitip"),
        ("/api/v1/auth/login", "aitip"),
        ("/api/v1/auth/token", "qflare"),
        ("/api/v1/devices", "qflare"),
        ("/ws/dashboard", "qflare"),
        ("/api/dashboard", "coordination"),
        ("/apis", "deep_learning"),
        ("/health", "tg_tinker"),
        ("/health/", "tg_tinker"),
        ("/healthy", "deep_learning"),
        ("/workbench/v1/nothing", "workbench"),
        ("/", "deep_learning"),
        ("", "deep_learning"),
        ("/datasets/upload", "deep_learning"),
    ],
)
def test_the_longest_prefix_names_the_contract(path: str, name: str) -> None:
    assert contract_name_at(path) == name


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_mistake_of_ours_is_told_in_the_words_of_the_paths_contract(prefix: str) -> None:
    async def mistaken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("row 4711 of patients.csv")

    client = TestClient(Edge(LastResort(mistaken), Settings()))
    answer = client.get(f"{prefix.rstrip('/')}/x")
    assert refusal(answer, contract_name_at(prefix)).status == 500
    assert "4711" not in answer.text


def test_the_table_agrees_with_every_route() -> None:
    for route in contract_routes():
        assert contract_name_at(route.path) == route.contract.name
