"""A device as its owner's program sees it: enrolled once, it learns in every round that it is fit for."""

from __future__ import annotations

import base64
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tg_workbench.crypto.certificates import request_for
from tg_workbench.crypto.hpke import OpeningKey
from tg_workbench.crypto.manifests import text_of
from tg_workbench.crypto.signatures import SigningKey, VerifyingKey
from tg_workbench.device.capabilities import own_capabilities
from tg_workbench.device.folder import DeviceFolder, Identity
from tg_workbench.device.masked_part import MaskedPart
from tg_workbench.device.memories import Memories
from tg_workbench.device.next_keys import NextKeys
from tg_workbench.device.rows import Rows
from tg_workbench.device.sealed_updates import SealedUpdates
from tg_workbench.device.signing_in import DeviceCredential
from tg_workbench.device.taking_part import TakingPart, TookPart
from tg_workbench.device.terms import Terms
from tg_workbench.device.trust import Trust
from tg_workbench.errors import (
    DeviceFolderUnusable,
    DeviceUnfit,
    InvalidRequest,
    PrivacyRefused,
    Refused,
    RoundNotFound,
    RoundNotOpen,
    SecureAggregationRefused,
    TermsNotMet,
    Unauthenticated,
    UpdateAlreadySubmitted,
    WorkbenchError,
)
from tg_workbench.federation.updates.bindings import FAREWELL_CONTEXT
from tg_workbench.sdk.address import Address
from tg_workbench.sdk.connection import Body, Call, Connection

log = logging.getLogger(__name__)
PATIENCE_SECONDS = 60.0
RECRUITING_SECONDS = 3600.0
WAIT_SECONDS = 25.0
LOOK_SECONDS = 3.0
ANY_TERMS = Terms()
"""Those of whoever trusts the workbench to protect updates as its campaigns say."""


class Device:
    """One device. `enroll` makes it, `Device(folder)` takes it up again."""

    def __init__(
        self,
        folder: Path | str,
        *,
        terms: Terms = ANY_TERMS,
        patience: float = PATIENCE_SECONDS,
        on_call: Callable[[WorkbenchError | None], object] | None = None,
    ) -> None:
        """The device that lives in `folder`. Raises DeviceFolderUnusable.

        `terms` are its own, whatever the workbench asks: it takes no part in rounds that do not meet them.
        `on_call` is told of each call that nobody answered, and that is tried again; with None, of an answer.
        """
        self.terms = terms
        self._folder = DeviceFolder(folder)
        identity = self._folder.read()
        address = Address(identity.base_url, identity.socket)
        self._connection = Connection(address, patience=patience, waits_its_turn=True)
        if on_call is not None:
            self._connection.on_call = on_call
        self._left: set[str] = set()
        """Rounds that it cannot take part in any more."""
        self._said: set[tuple[str, str]] = set()
        """What was logged of each round that is offered: nothing is logged at each look."""
        self._be(identity)

    @classmethod
    def enroll(
        cls,
        enrollment_token: str,
        organization_id: str,
        base_url: str | None = None,
        *,
        folder: Path | str,
        name: str | None = None,
        kind: str = "computer",
        capabilities: Mapping[str, Any] | None = None,
        socket: str | None = None,
        terms: Terms = ANY_TERMS,
        patience: float = PATIENCE_SECONDS,
    ) -> Device:
        """Make keys, have them certified, and be a device. The token is used up only if all goes well.

        The private keys never leave `folder`. Raises EnrollmentTokenExpired, QuotaExceeded, and
        DeviceFolderUnusable for a folder where a device lives already.
        """
        place = DeviceFolder(folder)
        if place.is_taken:
            raise DeviceFolderUnusable(
                str(place.path), "a device lives there already: use it, or name another folder"
            )
        address = Address.find(base_url, socket=socket)
        opening, signing = OpeningKey.generate(), SigningKey.generate()
        asked = {
            "enrollment_token": enrollment_token,
            "device_info": {
                "name": name or os.uname().nodename or "device",
                "type": kind,
                "capabilities": {**own_capabilities(), **(capabilities or {})},
            },
            "organization_id": organization_id,
            **_offer(opening, signing),
        }
        place.make()  # before the token is used up
        connection = Connection(Address(address.url, address.socket), patience=patience)
        try:
            body = Body.of_json({name: value for name, value in asked.items() if value is not None})
            told = connection.send(Call("POST", "/api/v1/devices/register", body=body, is_anonymous=True))
        finally:
            connection.close()
        place.write(
            Identity(
                base_url=address.url,
                socket=address.socket,
                device_id=told["device_id"],
                organization_id=organization_id,
                key_version=told["key_version"],
                certificate=told["certificate"],
                opening_key=opening,
                signing_key=signing,
                server_key=VerifyingKey.from_bytes(base64.b64decode(told["server_keys"]["signing_key"])),
                server_key_version=told["server_keys"]["key_version"],
            )
        )
        return cls(folder, terms=terms)

    def _be(self, identity: Identity) -> None:
        """Sign in with these keys from here on."""
        self._connection.credential = DeviceCredential(self._connection, identity)
        self._trust = Trust(self._connection, self._folder, identity)

    @property
    def _identity(self) -> Identity:
        return self._trust.identity

    @property
    def id(self) -> str:
        """Its id: `dev_…`."""
        return self._identity.device_id

    @property
    def address(self) -> Address:
        """Where its workbench answers."""
        return self._connection.address

    @property
    def organization_id(self) -> str:
        """The organisation that it belongs to."""
        return self._identity.organization_id

    def heartbeat(self, wait: float = 0.0) -> dict[str, Any]:
        """Say that it is there; its configuration, and the rounds that it may join now.

        `wait`: for how many seconds the answer may be held back while there is no such round. What the folder
        holds of campaigns that are over, as the workbench has signed, is deleted. Raises AssignmentInvalid
        when somebody else says that they are.
        """
        self._go_by_next_keys()
        memories = Memories(self._folder)
        campaigns = memories.campaigns()
        said = Body.of_json({"campaigns": campaigns}) if campaigns else None
        told = self._connection.post(f"/workbench/v1/devices/{self.id}/heartbeat", said, wait=wait)
        if isinstance(farewell := told.get("campaigns_over"), dict):
            memories.forget(set(campaigns) & self._over(farewell))
        if told["rotate_keys"]:
            self.rotate_keys()
        return told

    def rotate_keys(self) -> str:
        """Make new keys, have them certified and use them; their version. The last stay good for a while.

        A heartbeat does it when it is due, and when the device died as it did. Raises DeviceRevoked.
        """
        keys = NextKeys.of(self._folder)
        told = self._certified(keys)
        identity = replace(
            self._identity,
            opening_key=keys.opening,
            signing_key=keys.signing,
            key_version=told["key_version"],
            certificate=told["certificate"],
        )
        self._folder.write(identity)
        NextKeys.forget(self._folder)
        self._be(identity)
        return identity.key_version

    def rounds(self, wait: float = 0.0) -> list[dict[str, Any]]:
        """The rounds that it may join now, and those it has joined and not served yet, the oldest first."""
        found: list[dict[str, Any]] = self.heartbeat(wait)["rounds"]
        return found

    def join(self, round_id: str) -> dict[str, Any]:
        """Join a round now, and learn later. Raises RoundNotOpen, DeviceUnfit, RoundNotFound."""
        return dict(self._part(round_id).join())

    def take_part(
        self,
        round_id: str,
        rows: Rows,
        *,
        evaluation: Rows | None = None,
        wait: float = RECRUITING_SECONDS,
    ) -> TookPart | None:
        """Join a round, learn in it and submit; None when it ended before it began to train.

        An update whose receipt has not come, because this device died, is sent as it is, without learning
        again. `wait`: for how long it may recruit, in seconds. Raises what each step does, and TermsNotMet.
        """
        part = self._part(round_id)
        if (update := part.kept()) is not None:
            return part.deliver(update)
        assignment = part.await_assignment(wait)
        if assignment is None:
            return None
        self.terms.require(assignment)
        if assignment.get("secure_aggregation") is not None:
            return MaskedPart(part, assignment, least=self.terms.least_devices).take(rows, evaluation)
        envelope, learned = part.learn(assignment, rows, evaluation)
        return part.submit(assignment, envelope, learned)

    def learn(
        self,
        rows: Rows,
        *,
        evaluation: Rows | None = None,
        rounds: int | None = None,
        idle: float | None = 60.0,
        on_round: Callable[[TookPart], None] | None = None,
    ) -> list[TookPart]:
        """Take part in one round after another: in `rounds` of them, or until none was offered for `idle` s.

        With `idle=None` it waits for ever. Raises what `take_part` does, and InvalidRequest for less than one
        round or less than no time.
        """
        if rounds is not None and rounds < 1:
            raise InvalidRequest("rounds must be 1 or more; without it there is no end to them")
        if idle is not None and not idle >= 0:
            raise InvalidRequest("idle must be 0 seconds or more; None waits for ever")
        done: list[TookPart] = []
        since = time.monotonic()
        while rounds is None or len(done) < rounds:
            left = WAIT_SECONDS if idle is None else idle - (time.monotonic() - since)
            took = self._take_one(rows, evaluation, max(0.0, min(left, WAIT_SECONDS)))
            if took is not None:
                done.append(took)
                since = time.monotonic()
                if on_round is not None:
                    on_round(took)
            elif idle is not None and time.monotonic() - since >= idle:
                break
        return done

    def close(self) -> None:
        """Close every connection."""
        self._connection.close()

    def _certified(self, keys: NextKeys) -> dict[str, Any]:
        """What the workbench says to new keys, also to those that it has certified before."""
        path = f"/workbench/v1/devices/{self.id}/keys"
        offered = Body.of_json(_offer(keys.opening, keys.signing))
        try:
            return self._connection.post(path, offered)
        except Unauthenticated:  # the last keys are too old by now: then these are good, if any are
            last = self._connection.credential
            as_next = replace(self._identity, signing_key=keys.signing)
            self._connection.credential = DeviceCredential(self._connection, as_next)
            try:
                return self._connection.post(path, offered)
            except WorkbenchError:
                self._connection.credential = last
                raise

    def _go_by_next_keys(self) -> None:
        """End what a device had begun that died as its new keys were certified."""
        if NextKeys.find(self._folder) is not None:
            self.rotate_keys()

    def _over(self, farewell: Mapping[str, Any]) -> set[str]:
        """The campaigns that the workbench says are over, to this device. Raises AssignmentInvalid."""
        expected = {"v": 1, "organization_id": self.organization_id, "device_id": self.id}
        otherwise = "it tells another device which campaigns are over"
        self._trust.require_signed(farewell, FAREWELL_CONTEXT, expected, otherwise)
        return set(farewell["campaigns"])

    def _take_one(self, rows: Rows, evaluation: Rows | None, wait: float) -> TookPart | None:
        """Serve whichever of the offered rounds trains first: none that never fills up is waited for.

        An update whose receipt has not come yet goes before all.
        """
        self._go_by_next_keys()
        if (took := self._deliver_kept()) is not None:
            return took
        joined: list[TakingPart] = []
        offers = self.rounds(wait)
        self._said = {said for said in self._said if said[0] in {offered["id"] for offered in offers}}
        for offered in (each for each in offers if each["id"] not in self._left):
            if not self.terms.admit(offered):
                self._say_once(offered, "is without secure aggregation, which this device's terms forbid")
                continue
            self._say_once(offered, f"of campaign {offered['campaign_id']} is offered: this device joins it")
            part = self._part(offered["id"])
            try:
                told = part.join()
                if told["assignment"] is not None:
                    self._say_once(offered, "trains: this device learns")
                    return self.take_part(offered["id"], rows, evaluation=evaluation)
            except (SecureAggregationRefused, TermsNotMet) as refusal:  # its secrets are gone; or it may not
                log.warning("left round %s: %s", offered["id"], refusal)
                self._left.add(offered["id"])
            except (RoundNotOpen, DeviceUnfit, PrivacyRefused) as refusal:
                # it filled up or ended between the offer and now, or waits no longer; or it is another's turn
                self._say_once(offered, f"does without this device: {refusal}")
            else:
                joined.append(part)
        if offers:
            self._bide(joined, min(wait, LOOK_SECONDS))
        return None

    def _say_once(self, offered: Mapping[str, Any], line: str) -> None:
        """Log what is new about a round that is offered."""
        if (offered["id"], line) not in self._said:
            self._said.add((offered["id"], line))
            log.info("round %s %s", offered["number"], line)

    def _bide(self, joined: list[TakingPart], seconds: float) -> None:
        """Let time pass: what it can do nothing for now is offered again at once, however often it asks."""
        if not joined:
            time.sleep(seconds)
            return
        with suppress(Refused):
            joined[0].join(seconds)

    def _deliver_kept(self) -> TookPart | None:
        """Deliver an update whose receipt has not come, if there is one that is still taken."""
        for round_id in SealedUpdates(self._folder).rounds():
            part = self._part(round_id)
            if (update := part.kept()) is None:
                part.updates.forget(round_id)
                continue
            try:
                return part.deliver(update)
            except (RoundNotOpen, RoundNotFound, UpdateAlreadySubmitted, SecureAggregationRefused) as refusal:
                log.warning("the update for round %s came too late: %s", round_id, refusal)
        return None

    def _part(self, round_id: str) -> TakingPart:
        return TakingPart(self._connection, self._trust, self._folder, round_id)

    def __repr__(self) -> str:
        """Who, and never a key."""
        return f"<Device {self.id} of {self.organization_id} at {self._connection.address}>"


def _offer(opening: OpeningKey, signing: SigningKey) -> dict[str, Any]:
    """The public halves of keys, and a request for a certificate, which proves the signing key."""
    keys = {"encryption": text_of(opening.public.raw), "signing": text_of(signing.public.raw)}
    return {"public_keys": keys, "csr": request_for(signing).decode("ascii")}
