"""A device's keys over HTTP: listed, brought anew, rotated by force, and good for a while."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest

from tests.contracts.machines import Keys, Machine, code_of
from tests.contracts.people import People, Person

KEYS, ROTATE = "/api/v1/security/keys", "/api/v1/security/keys/rotate"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
Sql = Callable[..., None]


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
