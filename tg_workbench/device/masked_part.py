"""A device's part in a round with secure aggregation: what it has learned leaves it under masks alone.

It does each step of the protocol once. Its secrets are of this round and in memory only: a device that is
started anew has dropped out; or, if its vector was sealed before, sends that and leaves the rest to its
neighbours. Whatever does not fit together ends the round for it, before it tells a secret.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tg_workbench.crypto.manifests import text_of
from tg_workbench.crypto.signatures import VerifyingKey
from tg_workbench.device.rows import Rows
from tg_workbench.device.taking_part import TakingPart, TookPart
from tg_workbench.errors import (
    AssignmentInvalid,
    InvalidField,
    QuantumKeyInvalid,
    Refused,
    SecureAggregationRefused,
)
from tg_workbench.federation.updates.secure_aggregation import (
    LEAST_DEVICES,
    Advertisement,
    Agreement,
    Encoding,
    Parcel,
    Participant,
    Roster,
    Survivors,
    members_of,
    message_of,
)
from tg_workbench.sdk.connection import Body

FIRST_LOOK_SECONDS, MOST_LOOK_SECONDS = 0.1, 2.0
Letter = Mapping[str, Any]
Answer = TypeVar("Answer")


class MaskedPart:
    """One device in one round. `take` does all of it."""

    def __init__(
        self, part: TakingPart, assignment: Mapping[str, Any], *, least: int = LEAST_DEVICES
    ) -> None:
        """Raises AssignmentInvalid when the assignment does not say how to mask, or for whom.

        `least`: of how many devices this one insists on, should the workbench ask for fewer.
        """
        self.part = part
        self.assignment = assignment
        identity, told = part.identity, assignment["secure_aggregation"]
        try:
            keys = {
                name: VerifyingKey.from_bytes(base64.b64decode(key)) for name, key in told["keys"].items()
            }
            self.encoding = Encoding.from_json(told["encoding"])
            least = max(least, int(told["least"]))
            self.look_seconds = min(MOST_LOOK_SECONDS, max(FIRST_LOOK_SECONDS, float(told["look_seconds"])))
        except (KeyError, TypeError, ValueError, AttributeError, QuantumKeyInvalid, InvalidField):
            raise AssignmentInvalid("it does not say how to mask an update") from None
        own = keys.get(identity.device_id)
        if own is None or own.raw != identity.signing_key.public.raw:
            raise AssignmentInvalid("it names other keys of this device than it has")
        self.path = f"/workbench/v1/federation/rounds/{part.round_id}/secure"
        self.participant = Participant(
            part.round_id, identity.device_id, identity.signing_key, keys, least=least
        )

    def take(self, rows: Rows, evaluation: Rows | None = None) -> TookPart:
        """Agree on masks, learn, submit under them, and have them taken off the sum.

        Raises SecureAggregationRefused, CallFailed and what learning does.
        """
        self.share()
        self.report()
        took = self.submit(rows, evaluation)
        self.agree()
        self.unmask()
        return took

    def share(self) -> None:
        """Advertise keys, and share secrets with the neighbours."""
        self._say("advertise", members_of(self.participant.advertise()))
        told = self._await("share")
        roster = message_of(Roster, told.get("roster"))
        near = [message_of(Advertisement, each) for each in told.get("neighbours", ())]
        parcels = self.participant.share(roster, near)
        self._say("share", {"parcels": [members_of(parcel) for parcel in parcels]})

    def report(self) -> None:
        """Say which of the neighbours' parcels do not open."""
        told = self._await("report")
        parcels = [message_of(Parcel, each) for each in told.get("parcels", ())]
        self._say("report", members_of(self.participant.report(parcels)))

    def submit(self, rows: Rows, evaluation: Rows | None = None) -> TookPart:
        """Learn, and submit the update under all masks."""
        without = [str(name) for name in self._await("mask").get("without", ())]
        learned, _ = self.part.learned(self.assignment, rows, evaluation)
        words = self.encoding.words(learned.delta, learned.samples)
        masked = self.participant.mask(words, without).astype("<u4").tobytes()
        envelope = self.part.sealed(self.assignment, masked)
        return self._asked(lambda: self.part.submit(self.assignment, envelope, learned))

    def agree(self) -> None:
        """Sign whose vectors are in the sum."""
        survivors = message_of(Survivors, self._await("agree").get("survivors"))
        self._say("agree", {"signature": text_of(self.participant.agree(survivors))})

    def unmask(self) -> None:
        """Tell what takes the masks off the sum: one secret of each neighbour, and of none both."""
        agreement = message_of(Agreement, self._await("unmask").get("agreement"))
        said = members_of(self.participant.unmask(agreement))
        try:
            self._say("unmask", said)
        except SecureAggregationRefused:
            if self._look()["phase"] not in ("aggregating", "completed"):  # its answer was lost, no more
                raise

    def _say(self, step: str, content: Mapping[str, Any]) -> Letter:
        body = Body.of_json({"step": step, "content": content})
        return self._asked(lambda: self.part.connection.post(self.path, body))

    def _look(self) -> Letter:
        return self._asked(lambda: self.part.connection.get(self.path))

    def _await(self, step: str) -> Letter:
        """What is needed for a step, once it is time. SecureAggregationRefused: it never comes."""
        pause = FIRST_LOOK_SECONDS
        while True:
            letter = self._look()
            if letter["step"] is None:
                raise SecureAggregationRefused(letter["reason"] or f"the round is {letter['phase']}")
            if letter["step"] == step and isinstance(letter["content"], dict):
                return letter["content"]
            time.sleep(pause)
            pause = min(2 * pause, self.look_seconds)

    def _asked(self, ask: Callable[[], Answer]) -> Answer:
        """What the workbench answers; that it refuses is the end of this part."""
        try:
            return ask()
        except Refused as refusal:
            raise SecureAggregationRefused(f"the workbench says that {refusal}") from refusal
