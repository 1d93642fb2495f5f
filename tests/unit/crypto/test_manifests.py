"""A manifest is read strictly: every field once, of its type and within its bounds, and no other."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tg_workbench.crypto.hpke import OpeningKey
from tg_workbench.crypto.manifests import MOST_BYTES, Claim, Manifest, text_of
from tg_workbench.errors import EnvelopeBroken

WRAPPED = text_of(OpeningKey.generate().public.seal(bytes(32), b""))
GOOD: dict[str, Any] = {
    "organization_id": "org_1",
    "device_id": "dev_1",
    "round_id": "round_1",
    "model_version": "7",
    "key_version": "v1.0",
    "sample_count": 120,
    "metrics": {"loss": 0.25},
    "compression": "none",
    "created_at": 1_800_000_000,
    "nonce": "0123456789abcdef" * 2,
    "payload_sha256": "0123456789abcdef" * 4,
    "payload_bytes": 1000,
    "wrapped_key": WRAPPED,
    "v": 1,
    "alg": "MLKEM768-X25519+HKDF-SHA256+AES-256-GCM-STREAM+ML-DSA-65",
}


def raw(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def test_what_is_written_is_read() -> None:
    manifest = Manifest.parse(raw())
    assert Manifest.parse(manifest.canonical) == manifest
    assert json.loads(manifest.canonical) == GOOD
    assert set(GOOD) == {member.name for member in fields(Manifest)}


def test_there_is_one_spelling_that_we_write() -> None:
    turned = json.dumps(dict(reversed(GOOD.items())), indent=4).encode()
    assert Manifest.parse(turned).canonical == Manifest.parse(raw()).canonical
    assert b" " not in Manifest.parse(raw()).canonical


names = st.from_regex(r"[A-Za-z0-9_.:-]{1,100}", fullmatch=True)


@settings(max_examples=50, deadline=None)
@given(
    name=names,
    samples=st.integers(1, 10**9),
    metrics=st.dictionaries(names, st.floats(-1e300, 1e300), max_size=8),
)
def test_any_claim_within_bounds_survives(name: str, samples: int, metrics: dict[str, float]) -> None:
    claim = Claim(
        organization_id=name,
        device_id=name,
        round_id=name,
        model_version=name,
        key_version=name,
        sample_count=samples,
        metrics=metrics,
    )
    manifest = Manifest.of(claim, payload_sha256="0" * 64, payload_bytes=1, wrapped_key=WRAPPED)
    assert Manifest.parse(manifest.canonical) == manifest


OUT_OF_BOUNDS: dict[str, list[Any]] = {
    "organization_id": ["", "a" * 101, "a|b", "a\n", "é", 7, None, True, {}],
    "device_id": ["", "../x", "a b", 1.5],
    "round_id": ["", "round|dev", None],
    "model_version": ["", 7, "1\0"],
    "key_version": ["", 1.0],
    "compression": ["", "../none", None],
    "sample_count": [0, -1, 10**9 + 1, 2**63, 10**400, 1.0, "1", True, None, 1e9],
    "created_at": [-1, 253_402_300_800, 1.8e9, "now", None, True],
    "nonce": ["", "0" * 31, "0" * 33, "0" * 31 + "g", "A" * 32, 7],
    "payload_sha256": ["", "0" * 63, "A" * 64, None],
    "payload_bytes": [0, -1, (4 << 30) + 1, 10_000_000_000, 1e3, "1000", None, True],
    "wrapped_key": ["", "!" * 1560, WRAPPED[:-4], WRAPPED + "AAAA", WRAPPED.replace("=", ""), 7, "A" * 9000],
    "metrics": [None, 7, "x", {"loss": "low"}, {"loss": None}, {"loss": True}, {"": 1.0}, {"a b": 1.0}],
    "v": [0, 2, 1.0, "1", True, None],
    "alg": ["", "none", "AES-128-GCM", None],
}
CASES = [(name, value) for name, values in OUT_OF_BOUNDS.items() for value in values]


@pytest.mark.parametrize(("name", "value"), CASES, ids=[f"{n}-{k}" for k, (n, _) in enumerate(CASES)])
def test_a_field_out_of_its_bounds_is_refused(name: str, value: Any) -> None:
    with pytest.raises(EnvelopeBroken) as refusal:
        Manifest.parse(raw(**{name: value}))
    assert name in refusal.value.reason or "JSON" in refusal.value.reason


def test_every_field_has_a_bad_value_here() -> None:
    assert set(OUT_OF_BOUNDS) == set(GOOD)


@pytest.mark.parametrize("name", GOOD)
def test_a_field_that_is_missing_is_refused(name: str) -> None:
    with pytest.raises(EnvelopeBroken, match="exactly the members"):
        Manifest.parse(json.dumps({k: v for k, v in GOOD.items() if k != name}).encode())


@pytest.mark.parametrize("name", GOOD)
def test_a_field_that_comes_twice_is_refused(name: str) -> None:
    again = json.dumps({name: GOOD[name]}).encode()
    with pytest.raises(EnvelopeBroken, match=r"twice|too deep"):
        Manifest.parse(again[:-1] + b"," + raw()[1:])


NOT_MANIFESTS = {
    "nothing": b"",
    "not JSON": b"{",
    "a list": b"[1]",
    "a text": b'"manifest"',
    "null": b"null",
    "a field more": raw(pickle="x"),
    "a list inside": raw(metrics=[1]),
    "deep": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "deep lists": b"[" * 8000 + b"]" * 8000,
    "too deep by one": raw(metrics={"a": {"b": {}}}),
    "NaN": raw(metrics={"loss": math.nan}),
    "Infinity": raw(metrics={"loss": math.inf}),
    "1e999": raw().replace(b"0.25", b"1e999"),
    "-1e999": raw().replace(b"0.25", b"-1e999"),
    "1e308": raw(metrics={"loss": 1e308}),
    "a metric of 4,000 digits": raw().replace(b"0.25", b"9" * 4000),
    "many digits": raw().replace(b"0.25", b"9" * 6000),
    "NaN as a count": raw().replace(b": 120", b": NaN"),
    "a metric twice": raw().replace(b'"loss": 0.25', b'"loss": 0.25, "loss": 0.5'),
    "33 metrics": raw(metrics={f"m{n}": 1.0 for n in range(33)}),
    "too long": raw() + b" " * MOST_BYTES,
    "two values": raw() + raw(),
    "trailing bytes": raw() + b"\0",
    "a byte order mark": b"\xef\xbb\xbf" + raw(),
    "utf-16": raw().decode().encode("utf-16"),
    "utf-32": raw().decode().encode("utf-32"),
    "not ASCII": raw().replace(b"dev_1", "dév_1".encode()),
    "a lone surrogate": raw().replace(b"dev_1", rb"\ud800"),
    "a NUL": raw().replace(b"dev_1", rb"dev\u0000"),
    "a pickle": b"\x80\x04\x95\x0a",
}


@pytest.mark.parametrize("name", NOT_MANIFESTS)
def test_what_is_no_manifest_is_refused(name: str) -> None:
    with pytest.raises(EnvelopeBroken):
        Manifest.parse(NOT_MANIFESTS[name])


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=400))
def test_no_bytes_do_anything_but_be_refused(content: bytes) -> None:
    with pytest.raises(EnvelopeBroken):
        Manifest.parse(content)


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 500), content=st.binary(min_size=1, max_size=8))
def test_edited_bytes_are_read_as_something_valid_or_refused(place: int, content: bytes) -> None:
    edited = raw()[:place] + content + raw()[place + len(content) :]
    try:
        manifest = Manifest.parse(edited)
    except EnvelopeBroken:
        return
    assert Manifest.parse(manifest.canonical) == manifest


def test_no_refusal_repeats_what_was_sent() -> None:
    with pytest.raises(EnvelopeBroken) as refusal:
        Manifest.parse(raw(device_id="secret/name"))
    assert "secret" not in f"{refusal.value} {refusal.value.details}"
