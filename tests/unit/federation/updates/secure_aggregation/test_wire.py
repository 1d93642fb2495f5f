"""Every message survives the way through JSON, and nothing else is taken for one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tg_workbench.crypto.signatures import SigningKey
from tg_workbench.errors import SecureAggregationRefused
from tg_workbench.federation.updates.secure_aggregation import (
    Advertisement,
    Agreement,
    Parcel,
    Roster,
    Survivors,
    Unmasking,
    members_of,
    message_of,
)

KEY = SigningKey.generate()
SURVIVORS = Survivors("round_1", bytes(32), ("dev_1", "dev_2"))
MESSAGES = [
    Advertisement("round_1", "dev_1", bytes(1216), bytes(1216), bytes(32)).signed(KEY),
    Roster("round_1", {"dev_1": bytes(32), "dev_2": b"\1" * 32}, 1),
    Parcel("dev_1", "dev_2", bytes(1202), bytes(1168)),
    Parcel("dev_2", "dev_1", bytes(1202), bytes(1168), bytes(64)),
    SURVIVORS,
    Agreement(SURVIVORS, {"dev_1": KEY.sign(b"", b"")}),
    Unmasking("dev_1", {"dev_1": bytes(33)}, {}),
]
KINDS = [type(message).__name__ for message in MESSAGES]


@pytest.mark.parametrize("message", MESSAGES, ids=[f"{n}-{kind}" for n, kind in enumerate(KINDS)])
def test_a_message_survives_json(message: Any) -> None:
    back = message_of(type(message), json.loads(json.dumps(members_of(message))))
    assert back == message
    if isinstance(back, Advertisement):
        assert back.is_signed_by(KEY.public)
    if isinstance(back, Roster):
        assert back.digest == message.digest


GOOD = members_of(MESSAGES[0])
BAD: dict[str, Any] = {
    "nothing": None,
    "a list": [],
    "a text": "x",
    "no members": {},
    "one member more": {**GOOD, "pickle": ""},
    "one member less": {k: v for k, v in GOOD.items() if k != "signature"},
    "a name that is none": {**GOOD, "device_id": "a|b"},
    "a name too long": {**GOOD, "device_id": "a" * 101},
    "no name": {**GOOD, "device_id": 7},
    "not base64": {**GOOD, "mask_key": "!"},
    "no text": {**GOOD, "mask_key": 7},
    "too long": {**GOOD, "mask_key": "A" * 8000},
    "another spelling": {**GOOD, "mask_key": "QR=="},
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_message_is_refused(name: str) -> None:
    with pytest.raises(SecureAggregationRefused):
        message_of(Advertisement, BAD[name])


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (Roster, {"digests": []}),
        (Roster, {"digests": {"dev_1": 7}}),
        (Roster, {"digests": {"": ""}}),
        (Roster, {"degree": True}),
        (Roster, {"degree": -1}),
        (Roster, {"degree": 1.0}),
        (Roster, {"degree": 2**64}),
        (Survivors, {"device_ids": "dev_1"}),
        (Survivors, {"device_ids": ["dev_1"] * 65_537}),
        (Survivors, {"device_ids": [["dev_1"]]}),
        (Agreement, {"survivors": {}}),
        (Agreement, {"survivors": [1]}),
        (Agreement, {"signatures": None}),
    ],
    ids=range(13),
)
def test_members_of_another_kind_are_refused(kind: type, change: dict[str, Any]) -> None:
    good = members_of(next(message for message in MESSAGES if type(message) is kind))
    with pytest.raises(SecureAggregationRefused):
        message_of(kind, {**good, **change})
