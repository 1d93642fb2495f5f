"""Hearing: what a device of a secure round says is checked before it is kept, and kept once.

What is sealed for other devices cannot be looked into here: they do that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from tg_workbench.crypto.manifests import Manifest, content_of
from tg_workbench.crypto.signatures import SIGNATURE_BYTES
from tg_workbench.errors import EnvelopeBroken, SecureAggregationRefused
from tg_workbench.federation.rounds.exchange import NOT_IN, Exchange, Step
from tg_workbench.federation.rounds.tables import SecureMessage, SecureParcel
from tg_workbench.federation.updates import Layout
from tg_workbench.federation.updates.bindings import canonical
from tg_workbench.federation.updates.secure_aggregation import (
    WORD_BYTES,
    Advertisement,
    Parcel,
    Report,
    Unmasking,
    message_of,
)
from tg_workbench.federation.updates.secure_aggregation.encoding import MASKED
from tg_workbench.federation.updates.secure_aggregation.messages import AGREEING, only_once
from tg_workbench.federation.updates.secure_aggregation.pairs import are_sealed_ones

Said = Mapping[str, Any]


class Hearing:
    """What the devices of one exchange say, in a writing session."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.session, self.round = exchange.session, exchange.round

    def say(self, device_id: str, step: str, said: Said) -> None:
        """Take what a device says in a step. The same again is the same. Raises SecureAggregationRefused."""
        digest = hashlib.sha256(canonical(said)).hexdigest()
        known = self.session.get(SecureMessage, (self.round.id, step, device_id))
        if known is not None:
            if known.digest != digest:
                raise SecureAggregationRefused("this device has said something else before")
            return
        self.exchange.require_time(step)
        kept = self._checked(device_id, said)
        self.session.add(
            SecureMessage(round_id=self.round.id, step=step, device_id=device_id, content=kept, digest=digest)
        )
        self.session.flush()

    def require_masked(self, device_id: str, manifest: Manifest) -> None:
        """It is time for this device's masked vector, and that is what this is the manifest of.

        Raises SecureAggregationRefused, EnvelopeBroken.
        """
        size = WORD_BYTES * (Layout.from_json(self.round.layout or "").size + 1)
        if manifest.compression != MASKED or manifest.payload_bytes != size:
            raise EnvelopeBroken(f"this round takes masked vectors of {size:,} bytes")
        self.exchange.require_time(Step.MASK)
        if device_id not in self.exchange.members:
            raise SecureAggregationRefused(NOT_IN)

    def _checked(self, device_id: str, said: Said) -> dict[str, Any]:
        """What is to be kept of what a device says now."""
        match self.exchange.step:
            case Step.ADVERTISE:
                self._check_advertisement(device_id, said)
            case Step.SHARE:
                self._keep_parcels(device_id, said)
                return {}
            case Step.REPORT:
                self._check_report(device_id, said)
            case Step.AGREE:
                self._check_signature(device_id, said)
            case Step.UNMASK:
                self._check_shares(device_id, said)
            case Step.MASK:
                raise SecureAggregationRefused("a masked vector is submitted as an update is")
        return dict(said)

    def _check_advertisement(self, device_id: str, said: Said) -> None:
        advertised, key = message_of(Advertisement, dict(said)), self.exchange.verifying_key(device_id)
        if key is None:
            raise SecureAggregationRefused(NOT_IN)
        if (advertised.round_id, advertised.device_id) != (self.round.id, device_id):
            raise SecureAggregationRefused("an advertisement is of another round or device")
        if not advertised.is_signed_by(key):
            raise SecureAggregationRefused("an advertisement is not signed by its device")

    def _keep_parcels(self, device_id: str, said: Said) -> None:
        if device_id not in self.exchange.roster.digests:
            raise SecureAggregationRefused(NOT_IN)
        listed = said.get("parcels")
        if set(said) != {"parcels"} or not isinstance(listed, list) or len(listed) > self.exchange.devices:
            raise SecureAggregationRefused("parcels come as one list")
        parcels = [message_of(Parcel, each) for each in listed]
        expected = list(self.exchange.roster.graph.neighbours(device_id))
        own = sorted(parcel.recipient for parcel in parcels if parcel.sender == device_id)
        if len(parcels) != len(own) or own != expected:
            raise SecureAggregationRefused("there is not one parcel for each neighbour")
        rows = [{"round_id": self.round.id, **_raw(parcel)} for parcel in parcels]
        self.session.connection().execute(sa.insert(SecureParcel), rows)

    def _check_report(self, device_id: str, said: Said) -> None:
        if not self.exchange.has_said(device_id, Step.SHARE):
            raise SecureAggregationRefused(NOT_IN)
        report, near = message_of(Report, dict(said)), self.exchange.roster.graph.neighbours(device_id)
        if (
            report.device_id != device_id
            or not only_once(report.broken)
            or not set(report.broken) <= set(near)
        ):
            raise SecureAggregationRefused("a device complains of one that is no neighbour of it")

    def _check_signature(self, device_id: str, said: Said) -> None:
        survivors = self.exchange.survivors
        if device_id not in survivors.device_ids:
            raise SecureAggregationRefused(NOT_IN)
        signature = content_of(said.get("signature"), SIGNATURE_BYTES)
        key = self.exchange.verifying_key(device_id)
        if set(said) != {"signature"} or signature is None or key is None:
            raise SecureAggregationRefused("a signature comes alone, in base64")
        if not key.verifies(signature, survivors.content, AGREEING):
            raise SecureAggregationRefused("a device did not sign these survivors")

    def _check_shares(self, device_id: str, said: Said) -> None:
        if not self.exchange.has_said(device_id, Step.AGREE):
            raise SecureAggregationRefused(NOT_IN)
        shares, stayed = message_of(Unmasking, dict(said)), set(self.exchange.survivors.device_ids)
        told = {*shares.own, *shares.pairs}
        if shares.device_id != device_id or not told <= set(self.exchange.roster.graph.holders(device_id)):
            raise SecureAggregationRefused("a device has sent shares that nobody asked for")
        if not set(shares.own) <= stayed or set(shares.pairs) & stayed:
            raise SecureAggregationRefused("a device has sent both shares of another, or the wrong one")
        if not are_sealed_ones(shares, self.exchange.parcels(recipient=device_id)):
            raise SecureAggregationRefused("a device has sent a share that is not the one it was given")


def _raw(parcel: Parcel) -> dict[str, Any]:
    return {
        "sender": parcel.sender,
        "recipient": parcel.recipient,
        "shares": parcel.shares,
        "pair": parcel.pair,
        "marks": parcel.marks,
    }
