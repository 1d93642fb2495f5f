"""Devices come in by a token, show who they are by a signature, and are gone the moment somebody says so."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, unix_connect

from tests.contracts.doors import IN_ROUNDS, OF_DEVICES, PUBLIC, name_of
from tests.contracts.envelopes import refusal
from tests.contracts.machines import INFO, REGISTER, TOKENS, Keys, Machine, base64_of, registration, token_of
from tests.contracts.people import People, Person
from tests.webhook_receiver import WebhookReceiver
from tests.workbench_server import WorkbenchServer
from tg_workbench.app import contract_routes
from tg_workbench.contracts.route import ContractRoute
from tg_workbench.crypto.access_tokens import AccessToken, AccessTokens
from tg_workbench.crypto.hpke import OpeningKey, SealingKey
from tg_workbench.crypto.signatures import SigningKey, VerifyingKey

DEVICES, KEYS, ROTATE = "/api/v1/devices", "/api/v1/security/keys", "/api/v1/security/keys/rotate"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
CLOSED = [route for route in contract_routes() if name_of(route) not in PUBLIC]
Sql = Callable[..., None]


@pytest.fixture
def edge(alice: Person) -> Machine:
    """A device of Alice's organisation, with keys of its own."""
    return Machine.enroll(alice)


@pytest.fixture(scope="module")
def old(alice: Person) -> Machine:
    """Another one, which tests share that leave it as it is."""
    return Machine.enroll(alice)


@pytest.fixture
def sql(workbench_server: WorkbenchServer) -> Sql:
    """Lets time pass, by what the database says of it."""

    def run(statement: str, *values: Any) -> None:
        with closing(sqlite3.connect(workbench_server.home / "tgsp.db", timeout=30)) as connection:
            assert connection.execute(statement, values).rowcount > 0
            connection.commit()

    return run


def register(person: Person, **more: Any) -> httpx.Response:
    return person.http.post(REGISTER, json=registration(person, **more))


def code_of(answer: httpx.Response, contract: str = "qflare") -> tuple[int, str]:
    found = refusal(answer, contract)
    return found.status, found.code


# ----------------------------------------------------------------------------- registration
@pytest.mark.operation("S2-06")
def test_a_device_is_registered_with_the_documents_own_body(alice: Person) -> None:
    answer = register(alice)
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    body = answer.json()
    assert {"device_id", "certificate", "quantum_keys", "config"} <= set(body)
    assert re.fullmatch("dev_[0-9a-f]{32}", body["device_id"])
    assert set(body["quantum_keys"]) == {"encryption_key", "signing_key"}
    assert set(body["config"]) == {"server_endpoint", "update_interval", "training_config"}
    assert body["config"]["update_interval"] == 300
    assert body["config"]["training_config"] == {"batch_size": 32, "learning_rate": 0.001}
    x509.load_pem_x509_certificate(body["certificate"].encode())


def test_without_keys_of_its_own_a_device_is_given_some_once_and_the_audit_log_says_so(
    workbench_server: WorkbenchServer, alice: Person
) -> None:
    body = register(alice).json()
    assert body["key_origin"] == "server"
    seeds = [base64.b64decode(body["quantum_keys"][name]) for name in ("encryption_key", "signing_key")]
    keys = Keys(OpeningKey.from_seed(seeds[0]), SigningKey.from_seed(seeds[1]))
    leaf = x509.load_pem_x509_certificate(body["certificate"].encode())
    assert leaf.public_key() == keys.signing.public.key
    machine = Machine(alice.http, keys, body)
    machine.sign_in()
    assert machine.beat().status_code == 200
    entries = alice.http.get("/workbench/v1/audit", params={"limit": 50}).json()["entries"]
    (entry,) = [one for one in entries if one["object_id"] == machine.id and "register" in one["action"]]
    assert (entry["reason"], entry["actor_kind"], entry["outcome"]) == ("key_origin:server", "device", "done")
    stored = b"".join(path.read_bytes() for path in workbench_server.home.glob("tgsp.db*"))
    for seed in seeds:
        assert seed not in stored
        assert base64.b64encode(seed) not in stored


def test_with_keys_of_its_own_its_secrets_never_leave_it(alice: Person, old: Machine) -> None:
    body = old.registered
    assert body["key_origin"] == "device"
    sealing = SealingKey.from_bytes(base64.b64decode(body["quantum_keys"]["encryption_key"]))
    assert sealing.seal(b"update", b"info") != b"update"
    VerifyingKey.from_bytes(base64.b64decode(body["quantum_keys"]["signing_key"]))
    assert body["quantum_keys"]["encryption_key"] == body["server_keys"]["encryption_key"]


def test_the_certificate_is_under_the_authority_that_everybody_can_get(
    stranger: httpx.Client, old: Machine
) -> None:
    answer = stranger.get("/workbench/v1/federation/ca")
    assert "max-age" in answer.headers["cache-control"]
    issuing, root = x509.load_pem_x509_certificates(answer.content)
    leaf = x509.load_pem_x509_certificate(old.registered["certificate"].encode())
    PolicyBuilder().store(Store([root])).max_chain_depth(1).build_client_verifier().verify(leaf, [issuing])
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"urn:tg:device:{old.id}"]
    assert answer.text == old.registered["certificate_chain"]


def test_a_token_is_good_once(alice: Person) -> None:
    token = token_of(alice)
    assert register(alice, token=token).status_code == 201
    assert code_of(register(alice, token=token)) == (401, "ENROLLMENT_TOKEN_EXPIRED")


def test_of_two_registrations_that_race_for_one_token_one_wins(
    workbench_server: WorkbenchServer, alice: Person
) -> None:
    before = alice.http.get(DEVICES).json()["pagination"]["total"]
    token = token_of(alice)

    def race(_: int) -> int:
        with workbench_server.client() as http:
            return http.post(REGISTER, json=registration(alice, token)).status_code

    with ThreadPoolExecutor(8) as racers:
        assert Counter(racers.map(race, range(8))) == {201: 1, 401: 7}
    assert alice.http.get(DEVICES).json()["pagination"]["total"] == before + 1


def test_a_device_that_lost_the_answer_gets_it_again_with_its_own_keys_and_nobody_else_does(
    alice: Person,
) -> None:
    keys, token = Keys.new(), token_of(alice)
    first = register(alice, token=token, **keys.as_body()).json()
    again = register(alice, token=token, **keys.as_body()).json()
    assert (again["device_id"], again["certificate"]) == (first["device_id"], first["certificate"])
    for other in (Keys.new().as_body(), {}):
        assert code_of(register(alice, token=token, **other)) == (401, "ENROLLMENT_TOKEN_EXPIRED")


@pytest.mark.parametrize("case", ["unknown", "expired", "revoked", "foreign", "malformed"])
def test_a_token_that_is_not_good_is_told_alike(
    alice: Person, bob: Person, sql: Sql, case: str, workbench_server: WorkbenchServer
) -> None:
    issued = alice.http.post(TOKENS, json={"name": "the one in the barn"}).json()
    token, owner = issued["enrollment_token"], alice
    match case:
        case "unknown":
            token = f"tok_{secrets.token_urlsafe(32)}"
        case "expired":
            sql("UPDATE enrollment_tokens SET expires_at = 1 WHERE id = ?", issued["enrollment_token_id"])
        case "revoked":
            path = f"{TOKENS}/{issued['enrollment_token_id']}"
            assert alice.http.delete(path).json() == {"deleted": True}
        case "foreign":
            owner = bob
        case "malformed":
            token = "\x00' OR 1=1 --"
    answer = register(owner, token=token)
    if case != "malformed":
        assert code_of(answer) == (401, "ENROLLMENT_TOKEN_EXPIRED")
        assert "good" in answer.json()["error"]["message"]
    assert answer.status_code in (401, 422)
    assert token not in answer.text


def test_a_token_of_somebody_who_has_left_is_good_no_more(people: People, alice: Person) -> None:
    leaving = people.invite(alice, "dora", "admin")
    token = token_of(leaving)
    alice.http.delete(f"/workbench/v1/members/{leaving.user_id}")
    assert code_of(register(alice, token=token)) == (401, "ENROLLMENT_TOKEN_EXPIRED")


def test_what_goes_wrong_uses_no_token_up(alice: Person) -> None:
    token = token_of(alice)
    bad = Keys.new().as_body()
    bad["public_keys"]["encryption"] = base64_of(secrets.token_bytes(32))
    assert code_of(register(alice, token=token, **bad)) == (422, "INVALID_QUANTUM_KEY")
    assert register(alice, token=token).status_code == 201


def test_tokens_are_stored_as_hashes_and_listed_without_their_secret(
    workbench_server: WorkbenchServer, alice: Person
) -> None:
    issued = alice.http.post(TOKENS, json={"name": "barn", "expires_in_hours": 1}).json()
    token = issued["enrollment_token"]
    assert re.fullmatch(r"tok_[A-Za-z0-9_-]{43}", token)
    listed = alice.http.get(TOKENS)
    assert issued["enrollment_token_id"] in listed.text
    assert token not in listed.text
    stored = b"".join(path.read_bytes() for path in workbench_server.home.glob("tgsp.db*"))
    assert token.encode() not in stored
    assert alice.http.post(TOKENS, json={"expires_in_hours": 25}).status_code == 422


def test_only_administrators_let_devices_in(carol: Person) -> None:
    assert carol.http.post(TOKENS, json={}).status_code == 403
    assert carol.http.get(DEVICES).status_code == 200


# ----------------------------------------------------------------------------- keys that are none
def spoiled(keys: Keys, other: Keys) -> dict[str, dict[str, Any]]:
    """Bodies with something wrong about their keys."""
    good, foreign = keys.as_body(), other.as_body()
    public = good["public_keys"]
    csr = good["csr"]
    middle = len(csr) // 2
    flipped = csr[:middle] + ("A" if csr[middle] != "A" else "B") + csr[middle + 1 :]
    return {
        "random bytes for a key": {
            **good,
            "public_keys": {"encryption": base64_of(secrets.token_bytes(1216))[:44]},
        },
        "no base64": {**good, "public_keys": {"encryption": "%%%"}},
        "too short": {**good, "public_keys": {"encryption": public["encryption"][:-8]}},
        "zeros for X25519": {
            **good,
            "public_keys": {"encryption": base64_of(keys.opening.public.raw[:1184] + bytes(32))},
        },
        "another's csr": {**good, "csr": foreign["csr"]},
        "a csr that was changed": {**good, "csr": flipped},
        "no csr at all": {**good, "csr": "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"},
        "a signing key that is none": {**good, "public_keys": {**public, "signing": base64_of(bytes(31))}},
    }


@pytest.mark.parametrize("case", range(8))
def test_a_key_that_is_none_is_refused_in_the_documents_word(alice: Person, case: int) -> None:
    """What this document's own server did: 32 random bytes were a key, and nothing was verified."""
    name, keys = list(spoiled(Keys.new(), Keys.new()).items())[case]
    assert code_of(register(alice, **keys)) == (422, "INVALID_QUANTUM_KEY"), name


@pytest.mark.parametrize("missing", ["csr", "public_keys"])
def test_half_of_the_keys_is_not_enough(alice: Person, missing: str) -> None:
    body = Keys.new().as_body()
    del body[missing]
    assert register(alice, **body).status_code == 422


def test_a_workbench_may_insist_on_keys_of_the_devices_own_and_on_their_number() -> None:
    server = WorkbenchServer(TG_REQUIRE_DEVICE_KEYS="true", TG_MAX_DEVICES="2")
    try:
        people = People(server)
        ann = people.register("ann")
        assert code_of(register(ann)) == (422, "INVALID_QUANTUM_KEY")
        Machine.enroll(ann)
        second = Machine.enroll(ann)
        assert code_of(register(ann, **Keys.new().as_body())) == (429, "QUOTA_EXCEEDED")
        assert ann.http.delete(f"{DEVICES}/{second.id}").status_code == 200
        Machine.enroll(ann)
        people.close()
    finally:
        server.stop()


# ----------------------------------------------------------------------------- list, get, change, send away
@pytest.mark.operation("S2-05")
def test_devices_are_listed_as_documented(people: People) -> None:
    owner = people.register("fleet")
    machines = [Machine.enroll(owner) for _ in range(3)]
    answer = owner.http.get(DEVICES, params={"page": 1, "size": 2}).json()
    assert answer["pagination"] == {"page": 1, "size": 2, "total": 3, "pages": 2}
    assert [one["id"] for one in answer["devices"]] == [machines[2].id, machines[1].id]
    (first,) = owner.http.get(DEVICES, params={"page": 2, "size": 2}).json()["devices"]
    assert {
        "id",
        "name",
        "status",
        "organization_id",
        "last_seen",
        "capabilities",
        "security",
        "training",
    } <= set(first)
    assert (first["id"], first["status"]) == (machines[0].id, "online")
    assert first["capabilities"] == {"cpu_cores": 4, "memory_gb": 4, "storage_gb": 64, "gpu": False}
    assert first["security"]["quantum_key_version"] == "v1.0"
    assert first["training"] == {
        "current_round": None,
        "total_rounds_completed": 0,
        "avg_training_time": 0.0,
    }
    for moment in (first["last_seen"], first["security"]["certificate_expiry"]):
        assert TIME.fullmatch(moment)


@pytest.mark.operation("S2-05")
def test_devices_are_filtered_by_status_and_organization(
    people: People, api: httpx.Client, bob: Person
) -> None:
    owner = people.register("fleet")
    here, gone = Machine.enroll(owner), Machine.enroll(owner)
    owner.http.post(f"{gone.path}/revoke")
    by_status = {
        status: [one["id"] for one in owner.http.get(DEVICES, params={"status": status}).json()["devices"]]
        for status in ("online", "offline", "training")
    }
    assert by_status == {"online": [here.id], "offline": [gone.id], "training": []}
    ours = {"organization": owner.organization_id}
    assert owner.http.get(DEVICES, params=ours).json()["pagination"]["total"] == 2
    assert api.get(DEVICES, params=ours).json()["pagination"]["total"] == 2
    assert bob.http.get(DEVICES, params=ours).status_code == 404
    assert owner.http.get(DEVICES, params={"status": "asleep"}).status_code == 422
    assert owner.http.get(DEVICES, params={"size": 101}).status_code == 422


@pytest.mark.operation("S2-07")
def test_a_device_is_got_by_its_id(alice: Person, bob: Person, old: Machine) -> None:
    assert old.shown_to(alice)["id"] == old.id
    for who, device_id in ((bob, old.id), (alice, "dev_invalid")):
        answer = who.http.get(f"{DEVICES}/{device_id}")
        assert code_of(answer) == (404, "DEVICE_NOT_FOUND")
        assert device_id not in answer.text


@pytest.mark.operation("S2-08")
def test_a_devices_configuration_is_updated_and_reaches_it(alice: Person, edge: Machine) -> None:
    change = {
        "name": "Barn",
        "capabilities": {"gpu": True},
        "config": {"update_interval": 60, "training_config": {"batch_size": 8}},
    }
    changed = alice.http.put(f"{DEVICES}/{edge.id}", json=change).json()
    assert (changed["name"], changed["capabilities"]["gpu"]) == ("Barn", True)
    assert changed["capabilities"]["cpu_cores"] == 4
    config = edge.beat().json()["config"]
    assert config["update_interval"] == 60
    assert config["training_config"] == {"batch_size": 8, "learning_rate": 0.001}
    too_much = {"config": {"training_config": {"learning_rate": -1}}}
    assert code_of(alice.http.put(f"{DEVICES}/{edge.id}", json=too_much)) == (422, "VALIDATION_ERROR")


@pytest.mark.operation("S2-09")
def test_a_deregistered_device_is_gone_at_once(alice: Person, edge: Machine, stranger: httpx.Client) -> None:
    assert alice.http.delete(f"{DEVICES}/{edge.id}").status_code == 200
    assert code_of(alice.http.get(f"{DEVICES}/{edge.id}")) == (404, "DEVICE_NOT_FOUND")
    assert code_of(edge.beat(), "workbench") == (403, "DEVICE_REVOKED")
    assert code_of(edge.show(edge.assertion()), "workbench") == (403, "DEVICE_REVOKED")
    assert serial_of(edge) in revoked(stranger)


def serial_of(machine: Machine) -> int:
    return x509.load_pem_x509_certificate(machine.registered["certificate"].encode()).serial_number


def revoked(http: httpx.Client) -> set[int]:
    """The serial numbers on the list that everybody can get; its signature is looked at."""
    issuing, _ = x509.load_pem_x509_certificates(http.get("/workbench/v1/federation/ca").content)
    answer = http.get("/workbench/v1/federation/crl")
    assert "max-age" in answer.headers["cache-control"]
    found = x509.load_pem_x509_crl(answer.content)
    assert found.is_signature_valid(issuing.public_key())  # type: ignore[arg-type]
    return {entry.serial_number for entry in found}


# ----------------------------------------------------------------------------- showing who one is
def test_a_token_of_an_hour_opens_what_is_the_devices_own(alice: Person, edge: Machine) -> None:
    answer = edge.show(edge.assertion())
    assert (answer.json()["expires_in"], answer.json()["token_type"]) == (3600, "bearer")
    beat = edge.beat(capabilities={"memory_gb": 16}).json()
    assert (beat["status"], beat["rounds"], beat["rotate_keys"]) == ("online", [], False)
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


# ----------------------------------------------------------------------------- rotation
@pytest.mark.operation("S2-15")
def test_keys_are_listed_as_documented(people: People) -> None:
    owner = people.register("keys")
    machine = Machine.enroll(owner)
    answer = owner.http.get(KEYS).json()
    (key,) = answer["keys"]
    documented = {"device_id", "key_version", "created_at", "expires_at", "algorithm", "status"}
    assert documented <= set(key)
    assert (key["device_id"], key["key_version"], key["status"]) == (machine.id, "v1.0", "active")
    assert (key["algorithm"], key["parameter_set"]) == ("CRYSTALS-Kyber", "ML-KEM-768")
    assert answer["rotation_schedule"]["interval_days"] == 30
    assert TIME.fullmatch(answer["rotation_schedule"]["next_rotation"])
    assert owner.http.get(KEYS, params={"status": "revoked"}).json()["keys"] == []
    assert owner.http.get(KEYS, params={"device_id": machine.id}).json()["pagination"]["total"] == 1


def test_a_device_brings_new_keys_and_the_last_ones_stay_good_for_a_while(
    alice: Person, edge: Machine, sql: Sql
) -> None:
    old_token, new = edge.token, Keys.new()
    answer = edge.post("keys", new.as_body())
    assert answer.status_code == 201, answer.text
    assert (answer.json()["key_version"], answer.json()["key_origin"]) == ("v2.0", "device")
    new_token = edge.sign_in(new)
    assert edge.beat(old_token).status_code == edge.beat(new_token).status_code == 200
    assert edge.show(edge.assertion()).status_code == 200
    versions = {
        key["key_version"]: key["status"] for key in alice.http.get(f"{edge.path}/keys").json()["keys"]
    }
    assert versions == {"v2.0": "active", "v1.0": "rotating"}
    sql("UPDATE device_keys SET retires_at = 1 WHERE device_id = ? AND major = 1", edge.id)
    assert edge.beat(old_token).status_code == 401
    assert edge.show(edge.assertion()).status_code == 401
    assert edge.beat(new_token).status_code == 200
    assert edge.shown_to(alice)["security"]["quantum_key_version"] == "v2.0"


def test_two_versions_are_good_at_most(alice: Person, edge: Machine) -> None:
    for _ in range(3):
        keys = Keys.new()
        assert edge.post("keys", keys.as_body()).status_code == 201
        edge.sign_in(keys)
    found = alice.http.get(f"{edge.path}/keys").json()["keys"]
    assert [(key["key_version"], key["status"]) for key in found] == [
        *(("v4.0", "active"), ("v3.0", "rotating"), ("v2.0", "retired"), ("v1.0", "retired")),
    ]


def test_the_same_keys_again_get_a_new_certificate_and_no_longer_life(alice: Person, edge: Machine) -> None:
    answer = edge.post("keys", edge.keys.as_body()).json()
    assert answer["key_version"] == "v1.1"
    assert answer["certificate"] != edge.registered["certificate"]
    assert answer["keys_expire_at"] == edge.registered["keys_expire_at"]


def test_a_device_that_had_keys_of_its_own_is_never_given_any(edge: Machine) -> None:
    assert code_of(edge.post("keys", {}), "workbench") == (422, "INVALID_QUANTUM_KEY")


@pytest.mark.operation("S2-16")
def test_rotation_is_forced_with_a_time_of_grace(people: People) -> None:
    owner = people.register("forced")
    machines = [Machine.enroll(owner) for _ in range(2)]
    answer = owner.http.post(ROTATE).json()
    assert (answer["status"], answer["devices"]) == ("rotating", 2)
    assert TIME.fullmatch(answer["deadline"])
    assert [machine.beat().json()["rotate_keys"] for machine in machines] == [True, True]
    new = Keys.new()
    assert machines[0].post("keys", new.as_body()).status_code == 201
    assert machines[0].sign_in(new)
    assert machines[0].beat().json()["rotate_keys"] is False
    listed = owner.http.get(KEYS, params={"status": "rotating"}).json()["keys"]
    assert {key["device_id"] for key in listed} == {machine.id for machine in machines}


@pytest.mark.operation("S2-16")
def test_without_grace_old_keys_end_at_once_unless_the_device_is_away(people: People) -> None:
    owner = people.register("forced")
    here, away = Machine.enroll(owner), Machine.enroll(owner)
    owner.http.post(f"{away.path}/revoke")
    body = {"device_id": away.id, "grace_hours": 0}
    assert code_of(owner.http.post(ROTATE, json=body)) == (409, "DEVICE_OFFLINE")
    assert owner.http.post(ROTATE, json={"device_id": here.id, "grace_hours": 0}).json()["devices"] == 1
    assert here.beat().status_code == 401


@pytest.mark.operation("S2-16")
def test_rotation_is_for_administrators_and_of_ones_own_devices(
    carol: Person, bob: Person, old: Machine
) -> None:
    assert code_of(carol.http.post(ROTATE)) == (403, "INSUFFICIENT_PERMISSIONS")
    assert code_of(bob.http.post(ROTATE, json={"device_id": old.id})) == (404, "DEVICE_NOT_FOUND")
    assert old.beat().json()["rotate_keys"] is False


def test_the_operator_changes_the_servers_own_keys(api: httpx.Client, alice: Person, old: Machine) -> None:
    before = old.registered["server_keys"]["key_version"]
    version = api.post(ROTATE, json={}).json()["server_key_version"]
    assert version != before
    assert Machine.enroll(alice).registered["server_keys"]["key_version"] == version
    assert alice.http.get(KEYS).json()["server_key_version"] == version


# ----------------------------------------------------------------------------- the channel
Dial = Callable[..., ClientConnection]


@pytest.fixture
def dial(workbench_server: WorkbenchServer) -> Iterator[Dial]:
    """Opens a device's channel, and closes it afterwards."""
    with ExitStack() as opened:

        def connect(machine: Machine, token: str | None = None, prefix: str = "") -> ClientConnection:
            url = f"ws://workbench{prefix}/ws/device/{machine.id}"
            headers = {"Authorization": f"Bearer {token or machine.token}"}
            dialled = unix_connect(str(workbench_server.socket), url, additional_headers=headers)
            return opened.enter_context(dialled)

        yield connect


def hear(channel: ClientConnection, kind: str) -> dict[str, Any]:
    for _ in range(50):
        message: dict[str, Any] = json.loads(channel.recv(20))
        if message["type"] == kind:
            return message
    raise AssertionError(f"nothing of {kind}")


def closing_code(channel: ClientConnection) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        hear(channel, "nothing of this name")
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


@pytest.mark.operation("S2-30")
@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_a_device_hears_what_is_its_own(alice: Person, edge: Machine, dial: Dial, prefix: str) -> None:
    channel = dial(edge, prefix=prefix)
    assert hear(channel, "connected")["data"]["channel"] == "device"
    Machine.enroll(alice)
    new = Keys.new()
    edge.post("keys", new.as_body())
    told = hear(channel, "key_rotated")
    assert told["data"] == {"device_id": edge.id, "key_version": "v2.0"}
    assert TIME.fullmatch(told["timestamp"])


@pytest.mark.operation("S2-30")
@pytest.mark.parametrize("how", ["revoke", "deregister"])
def test_a_device_that_is_sent_away_is_let_go_at_once(
    alice: Person, edge: Machine, dial: Dial, how: str
) -> None:
    channel = dial(edge)
    hear(channel, "connected")
    if how == "revoke":
        alice.http.post(f"{edge.path}/revoke", json={"reason": "stolen"})
    else:
        alice.http.delete(f"{DEVICES}/{edge.id}")
    began = time.monotonic()
    assert closing_code(channel) == 4403
    assert time.monotonic() - began < 4
    assert closing_code(dial(edge)) == 4403


def test_a_devices_channel_opens_to_nobody_else(
    alice: Person, edge: Machine, old: Machine, dial: Dial
) -> None:
    for token in (old.token, alice.signed_in["access_token"]):
        assert closing_code(dial(edge, token)) == 4403
    assert closing_code(dial(edge, "nonsense")) == 4401


# ----------------------------------------------------------------------------- here and away
@pytest.fixture(scope="module")
def quick() -> Iterator[WorkbenchServer]:
    """A workbench that may call this machine."""
    server = WorkbenchServer(TG_WEBHOOK_ALLOW_LOOPBACK="true")
    yield server
    server.stop()


def test_a_device_that_is_not_seen_is_missed_once_and_comes_back(quick: WorkbenchServer) -> None:
    people = People(quick)
    owner = people.register("owner")
    with WebhookReceiver() as receiver:
        events = ["device.registered", "device.offline", "security.key_rotated"]
        hook = owner.http.post("/workbench/v1/webhooks", json={"url": receiver.url, "events": events})
        assert hook.status_code == 201, hook.text
        away, here = Machine.enroll(owner), Machine.enroll(owner)
        for machine in (away, here):
            change = {"config": {"update_interval": 1 if machine is away else 300}}
            assert owner.http.put(f"{DEVICES}/{machine.id}", json=change).status_code == 200
        offline = receiver.until(lambda got: any(one.json["event"] == "device.offline" for one in got))
        assert away.shown_to(owner)["status"] == "offline"
        assert here.shown_to(owner)["status"] == "online"
        assert owner.http.get("/api/v1/status").json()["federated_learning"] == {
            "active_rounds": 0,
            "total_devices": 2,
            "online_devices": 1,
        }
        assert owner.http.get("/api/v1/status").json()["security"]["quantum_keys_rotation"]
        away.beat()
        assert away.shown_to(owner)["status"] == "online"
        here.post("keys", Keys.new().as_body())
        received = receiver.until(lambda got: any(one.json["event"] == "security.key_rotated" for one in got))
        told = Counter((one.json["event"], one.json["data"].get("device_id")) for one in received)
        assert told["device.registered", away.id] == told["device.registered", here.id] == 1
        assert told["device.offline", here.id] == 0
        assert sum(one.json["event"] == "device.offline" for one in offline) == 1
        (registered,) = [
            one.json["data"]
            for one in received
            if one.json["event"] == "device.registered" and one.json["data"]["device_id"] == here.id
        ]
        assert registered == {
            "device_id": here.id,
            "organization_id": owner.organization_id,
            "device_name": INFO["name"],
        }
    people.close()


def test_each_device_has_its_own_hundred_requests_a_minute() -> None:
    server = WorkbenchServer(TG_RATE_LIMITS="on")
    try:
        people = People(server)
        owner = people.register("owner")
        busy, other = Machine.enroll(owner), Machine.enroll(owner)
        first = busy.beat()
        assert first.headers["x-ratelimit-limit"] == "100"
        left = int(first.headers["x-ratelimit-remaining"])
        found = Counter(busy.beat().status_code for _ in range(left + 5))
        assert found == {200: left, 429: 5}
        assert other.beat().status_code == 200
        people.close()
    finally:
        server.stop()


def test_a_thousand_devices_are_listed_and_beat_quickly(
    people: People, workbench_server: WorkbenchServer
) -> None:
    owner = people.register("fleet")
    machine = Machine.enroll(owner)
    with closing(sqlite3.connect(workbench_server.home / "tgsp.db", timeout=30)) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(devices)")]
        others = ", ".join(
            f"'dev_' || value || '_{machine.id}'" if name == "id" else name for name in columns
        )
        connection.execute(
            f"WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 999) "  # noqa: S608
            f"INSERT INTO devices ({', '.join(columns)}) SELECT {others} FROM devices, n WHERE id = ?",
            (machine.id,),
        )
        connection.commit()

    def median(ask: Callable[[], httpx.Response]) -> float:
        took = []
        for _ in range(15):
            began = time.perf_counter()
            assert ask().status_code == 200
            took.append(time.perf_counter() - began)
        return sorted(took)[len(took) // 2]

    page: dict[str, str | int] = {"size": 100, "status": "online"}
    assert owner.http.get(DEVICES, params=page).json()["pagination"]["total"] == 1000
    nothing = median(lambda: owner.http.get("/api/v1/auth/me"))
    assert median(lambda: owner.http.get(DEVICES, params=page)) < 0.2 + 10 * nothing
    assert median(machine.beat) < 0.1 + 5 * nothing
    owner.http.post(ROTATE, json={})
