"""Campaigns as their organisation's members see them, and who may end one."""

from __future__ import annotations

from tests.contracts.envelopes import refusal
from tests.contracts.people import People, Person


def test_a_campaign_is_cancelled_by_its_owner_or_an_administrator(
    people: People, alice: Person, bob: Person, carol: Person
) -> None:
    dave = people.invite(alice, "dave")
    body = {"model_config": {"architecture": "logistic"}}
    for who in (carol, alice):
        started = carol.http.post("/api/v1/fl/rounds", json=body).json()
        path = f"/workbench/v1/federation/campaigns/{started['campaign_id']}"
        assert dave.http.get(path).json()["status"] == "active"
        refused = refusal(dave.http.delete(path), "workbench")
        assert (refused.status, refused.code) == (403, "PERMISSION_DENIED")
        assert bob.http.delete(path).status_code == 404
        assert who.http.delete(path).json()["status"] == "cancelled"
