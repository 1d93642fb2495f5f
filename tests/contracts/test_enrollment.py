"""Enrolment over HTTP: tokens let devices in, with keys that are good, under a certificate."""

from __future__ import annotations

import base64
import re
import secrets
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from tests.contracts.machines import (
    REGISTER,
    TOKENS,
    Keys,
    Machine,
    base64_of,
    code_of,
    register,
    registration,
    token_of,
)
from tests.contracts.people import People, Person
from tests.workbench_server import WorkbenchServer
from tg_workbench.crypto.hpke import OpeningKey, SealingKey
from tg_workbench.crypto.signatures import SigningKey, VerifyingKey

DEVICES = "/api/v1/devices"
Sql = Callable[..., None]


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
