"""How a device shows who it is, what that opens, and that nothing does once it is revoked."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.contracts.doors import IN_ROUNDS, OF_DEVICES, PUBLIC, name_of
from tests.contracts.machines import Keys, Machine, base64_of, code_of, revoked, serial_of
from tests.contracts.people import Person
from tests.workbench_server import WorkbenchServer
from tg_workbench.app import contract_routes
from tg_workbench.contracts.route import ContractRoute
from tg_workbench.crypto.access_tokens import AccessToken, AccessTokens

CLOSED = [route for route in contract_routes() if name_of(route) not in PUBLIC]
Sql = Callable[..., None]


def test_a_token_of_an_hour_opens_what_is_the_devices_own(alice: Person, edge: Machine) -> None:
    answer = edge.show(edge.assertion())
    assert (answer.json()["expires_in"], answer.json()["token_type"]) == (3600, "bearer")
    beat = edge.beat(capabilities={"memory_gb": 16}).json()
    assert (beat["status"], beat["rotate_keys"]) == ("online", False)
    assert edge.shown_to(alice)["capabilities"]["memory_gb"] == 16


def test_an_assertion_is_good_once(edge: Machine) -> None:
    shown = edge.assertion()
    assert edge.show(shown).status_code == 200
    assert edge.show(shown).status_code == 401
    assert edge.show(edge.assertion()).status_code == 200


@pytest.mark.parametrize("skew", [-400, 400])
def test_a_clock_that_is_wrong_is_told_what_the_time_is(edge: Machine, skew: int) -> None:
    answer = edge.show(edge.assertion(skew=skew))
    assert code_of(answer, "workbench") == (401, "CLOCK_SKEWED")
    assert abs(answer.json()["error"]["details"]["server_time"] - time.time()) < 60
    assert edge.show(edge.assertion(skew=skew * 0.7)).status_code == 200


def digest_for_a_signature(machine: Machine) -> dict[str, Any]:
    """SHA-256 in a signature's place: the document's own server took it."""
    shown = machine.assertion()
    message = f"{shown['device_id']}\n{shown['timestamp']}\n{shown['nonce']}".encode()
    return {**shown, "signature": base64_of((hashlib.sha256(message).digest() * 104)[:3309])}


FORGED: dict[str, Callable[[Machine], dict[str, Any]]] = {
    "a digest": digest_for_a_signature,
    "zeros": lambda machine: machine.assertion(signature=base64_of(bytes(3309))),
    "another's key": lambda machine: machine.assertion(keys=Keys.new()),
    "another nonce": lambda machine: {**machine.assertion(), "nonce": secrets.token_urlsafe(16)},
    "another time": lambda machine: {**(one := machine.assertion()), "timestamp": one["timestamp"] + 1},
    "another device": lambda machine: machine.assertion(device_id=f"dev_{secrets.token_hex(16)}"),
    "another context": lambda machine: {
        **(one := machine.assertion()),
        "signature": base64_of(
            machine.keys.signing.sign(
                f"{machine.id}\n{one['timestamp']}\n{one['nonce']}".encode(), b"tg-fl-update-v1"
            )
        ),
    },
}


@pytest.mark.parametrize("name", FORGED)
def test_nothing_but_its_own_signature_signs_a_device_in(edge: Machine, name: str) -> None:
    assert edge.show(FORGED[name](edge)).status_code == 401


def test_a_signature_of_another_length_is_malformed(edge: Machine) -> None:
    assert code_of(edge.show(edge.assertion(signature="AAAA")), "workbench")[0] == 422


def forged_token(machine: Machine, home: Any, **more: Any) -> str:
    organization = AccessTokens(home).read(machine.token)
    told = {
        "user_id": machine.id,
        "tenant_id": organization.tenant_id,
        "scopes": frozenset({"device"}),
        "session_id": organization.session_id,
        "lifetime_seconds": 3600,
        **more,
    }
    return AccessTokens(home).sign(AccessToken(**told))


def test_a_token_counts_only_for_its_own_certificate_device_and_organization(
    workbench_server: WorkbenchServer, edge: Machine, old: Machine, bob: Person
) -> None:
    """Even with the workbench's own key: each of the three is looked up at every request."""
    home = workbench_server.home
    assert edge.beat(forged_token(edge, home)).status_code == 200
    for other in (
        {"session_id": "0" * 64},
        {"session_id": AccessTokens(home).read(old.token).session_id},
        {"tenant_id": bob.organization_id},
        {"user_id": old.id},
        {"issued_at": int(time.time()) - 7200},
    ):
        assert edge.beat(forged_token(edge, home, **other)).status_code == 401, other
    assert edge.beat(forged_token(edge, home, scopes=frozenset({"device", "read"}))).status_code == 401


@pytest.mark.parametrize("door", sorted(OF_DEVICES))
def test_what_is_for_devices_opens_to_no_person_key_or_other_device(
    alice: Person, api: httpx.Client, old: Machine, edge: Machine, door: str
) -> None:
    method, _, pattern = door.partition(" ")
    path = pattern.format(device_id=edge.id, round_id="round_none")
    for http in (alice.http, api):
        assert http.request(method, path, json={}).status_code == 403
    other = {"Authorization": f"Bearer {old.token}"}
    answer = alice.http.request(method, path, json={}, headers=other)
    assert answer.status_code == 404
    assert code_of(answer, "workbench")[1] in ("DEVICE_NOT_FOUND", "ROUND_NOT_FOUND")


@pytest.mark.parametrize("door", sorted(IN_ROUNDS))
def test_a_round_opens_to_no_person_key_or_device_of_others(
    alice: Person, bob: Person, api: httpx.Client, door: str
) -> None:
    body = {"model_config": {"architecture": "logistic"}}
    started = alice.http.post("/api/v1/fl/rounds", json=body).json()
    method, path = door.format(round_id=started["id"], upload_id="upd-none").split(" ")
    for http in (alice.http, api):
        assert http.request(method, path).status_code == 403
    other = {"Authorization": f"Bearer {Machine.enroll(bob).token}"}
    answer = alice.http.request(method, path, headers=other)
    contract = "qflare" if path.startswith("/api") else "workbench"
    assert code_of(answer, contract) == (404, "ROUND_NOT_FOUND")
    alice.http.delete(f"/workbench/v1/federation/campaigns/{started['campaign_id']}")


@pytest.mark.parametrize("route", CLOSED, ids=name_of)
def test_a_devices_token_opens_nothing_else(
    stranger: httpx.Client, old: Machine, route: ContractRoute
) -> None:
    (method,) = route.methods or {"GET"}
    path = re.sub(r"{\w+}", "none", route.path)
    answer = stranger.request(method, path, headers={"Authorization": f"Bearer {old.token}"})
    assert answer.status_code == (404 if name_of(route) in OF_DEVICES | IN_ROUNDS else 403), answer.text


# ----------------------------------------------------------------------------- revocation
def test_a_revoked_device_is_refused_at_once_and_on_the_list(
    alice: Person, edge: Machine, stranger: httpx.Client
) -> None:
    assert serial_of(edge) not in revoked(stranger)
    answer = alice.http.post(f"{edge.path}/revoke", json={"reason": "stolen"})
    assert answer.json()["security"]["certificate_status"] == "revoked"
    assert answer.json()["status"] == "offline"
    assert code_of(edge.beat(), "workbench") == (403, "DEVICE_REVOKED")
    assert code_of(edge.show(edge.assertion()), "workbench") == (403, "DEVICE_REVOKED")
    assert edge.post("keys", Keys.new().as_body()).status_code == 403
    assert serial_of(edge) in revoked(stranger)
    (key,) = alice.http.get(f"{edge.path}/keys").json()["keys"]
    assert (key["status"], bool(key["revoked_at"])) == ("revoked", True)


@pytest.mark.parametrize("column", ["certificate_expires_at", "expires_at"])
def test_keys_and_certificates_that_are_too_old_open_nothing(edge: Machine, sql: Sql, column: str) -> None:
    sql(f"UPDATE device_keys SET {column} = 1 WHERE device_id = ?", edge.id)  # noqa: S608
    assert edge.beat().status_code == 401
    assert edge.show(edge.assertion()).status_code == 401
