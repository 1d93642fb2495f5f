"""Submissions: the sealed updates that devices send, from their manifest to the receipt.

What comes in order: whose it is and for what (the manifest, signed), whether it is whole (every tag, the
length and the digest), and last, in the worker, whether its numbers can be used. What was kept once is kept
for good: the same envelope again gets the same receipt, another one is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlmodel import Session, select

from tg_workbench.crypto.manifests import Manifest
from tg_workbench.crypto.signatures import VerifyingKey
from tg_workbench.errors import (
    EnvelopeBroken,
    RoundNotOpen,
    UpdateAlreadySubmitted,
    UpdateRejected,
)
from tg_workbench.federation.devices.device_keys import is_good
from tg_workbench.federation.devices.tables import Device, DeviceKey
from tg_workbench.federation.rounds.assignments import Signer
from tg_workbench.federation.rounds.campaigns import ask_for_worker
from tg_workbench.federation.rounds.exchange import Exchange
from tg_workbench.federation.rounds.hearing import Hearing
from tg_workbench.federation.rounds.lateness import accepts_updates
from tg_workbench.federation.rounds.phases import Part
from tg_workbench.federation.rounds.rounds import Rounds
from tg_workbench.federation.rounds.specs import CampaignSpec
from tg_workbench.federation.rounds.tables import Campaign, Participation, Round
from tg_workbench.federation.rounds.turns import version_name
from tg_workbench.federation.updates import Layout, compression_in
from tg_workbench.federation.updates.bindings import RECEIPT_CONTEXT
from tg_workbench.storage import Blobs, LeftBlobs
from tg_workbench.storage.database import now

CLOCK_SECONDS = 300.0
"""By how much a device's clock may be wrong."""
OVERHEAD_BYTES = 64 << 10
"""Room for the manifest, its signature and the tags."""
FLOAT32_BYTES, HEADER_BYTES = 4, 1024
EARLY_HEADER_BYTES = 64 << 10
"""How long a payload's header may be to be read in the API too; a longer one is left to the worker."""
OTHER_COMPRESSION = "its manifest names another compression than its payload has"


@dataclass(frozen=True, slots=True)
class Arrived:
    """An envelope that lies in a blob, whole: every tag, its length and its digest were right."""

    blob: str
    """Also its SHA-256."""
    size_bytes: int
    manifest: Manifest


class Submissions:
    """The updates that devices send for rounds."""

    def __init__(self, session: Session, folder: Path, blobs: Blobs) -> None:
        self.session = session
        self.rounds = Rounds(session, folder, blobs)
        self.left = LeftBlobs(session, blobs)
        self.folder = folder

    def most_bytes(self, round_: Round) -> int:
        """How large an envelope for a round can be."""
        if round_.layout is None:
            return OVERHEAD_BYTES
        layout = Layout.from_json(round_.layout)
        most = 2 * FLOAT32_BYTES * layout.size  # SCAFFOLD sends two vectors, and top-k of all two columns
        return most + OVERHEAD_BYTES + HEADER_BYTES * len(layout.parts)

    def admit(self, device: Device, round_id: str, manifest: Manifest) -> Round:
        """The round that a manifest is for, if this device may submit what it tells of.

        Raises RoundNotFound, RoundNotOpen, EnvelopeBroken for a manifest of something else.
        """
        round_, spec, part = self.rounds.for_device(device, round_id)
        manifest.must_be_for(organization_id=device.organization_id, round_id=round_.id, device_id=device.id)
        if manifest.model_version != version_name(round_.base_version):
            raise EnvelopeBroken("it was made from another version of the model")
        if not self._earliest(round_) <= manifest.created_at <= now() + CLOCK_SECONDS:
            raise EnvelopeBroken("it is too old, or from the future: look at the device's clock")
        if part.digest is None:
            self._require_open(round_, spec, part)
        if part.status == Part.JOINED and spec.secure_aggregation:
            Hearing(Exchange(self.session, round_)).require_masked(device.id, manifest)
        return round_

    def expect(self, device: Device, round_id: str, digest: str) -> Participation:
        """A device's part, if it may submit what has this digest now, or has done so.

        Raises RoundNotFound, RoundNotOpen, UpdateAlreadySubmitted.
        """
        round_, spec, part = self.rounds.for_device(device, round_id)
        if part.digest is not None:
            if part.digest == digest:
                return part
            raise UpdateAlreadySubmitted(round_.id)
        self._require_open(round_, spec, part)
        return part

    def announce(self, device: Device, round_id: str, blob: str) -> None:
        """An update will lie in this blob, and `keep` is to name it; one that is kept stays as it is.

        Raises RoundNotFound, RoundNotOpen, UpdateAlreadySubmitted.
        """
        if self.expect(device, round_id, blob).digest is None:
            self.left.expect([blob])

    def keep(self, device: Device, round_id: str, arrived: Arrived, signer: Signer) -> Participation:
        """Keep an update, and have the worker look into it. The same again is the same; its blob is shared.

        Raises RoundNotFound, RoundNotOpen, UpdateAlreadySubmitted.
        """
        part = self.expect(device, round_id, arrived.blob)
        if part.digest is not None:
            return part
        round_, spec, _ = self.rounds.for_device(device, round_id)
        if spec.secure_aggregation:
            Hearing(Exchange(self.session, round_)).require_masked(device.id, arrived.manifest)
        part.status, part.submitted_at = Part.SUBMITTED, now()
        part.blob = part.digest = arrived.blob
        part.size_bytes = arrived.size_bytes
        if not spec.secure_aggregation:
            part.sample_count = arrived.manifest.sample_count
            if not spec.privacy.differential_privacy:  # else what it says of itself is covered by no ε
                part.metrics = dict(arrived.manifest.metrics)
        part.receipt = receipt_of(part, signer)
        self.left.named([arrived.blob])
        self.session.add(part)
        ask_for_worker(self.session, self.folder, self.session.get_one(Campaign, round_.campaign_id))
        return part

    def require_good(self, part: Participation) -> Participation:
        """The part, unless its update has come to nothing. Raises UpdateRejected, RoundNotOpen."""
        if part.status == Part.REJECTED:
            raise UpdateRejected(part.reason or "")
        if part.status == Part.DROPPED:
            round_ = self.session.get_one(Round, part.round_id)
            raise RoundNotOpen(round_.id, round_.phase, _not_taken(part))
        return part

    def _require_open(self, round_: Round, spec: CampaignSpec, part: Participation) -> None:
        """Raises RoundNotOpen unless an update may come for this part now."""
        if part.status == Part.DROPPED:
            raise RoundNotOpen(round_.id, round_.phase, _not_taken(part))
        if part.status != Part.JOINED or not accepts_updates(round_, spec):
            raise RoundNotOpen(round_.id, round_.phase)

    def _earliest(self, round_: Round) -> float:
        """An update may have been sealed at any time since its round began to train."""
        return (round_.training_at or now()) - CLOCK_SECONDS


def verifying_key(session: Session, device_id: str, key_version: str, *, good: bool = True) -> VerifyingKey:
    """What verifies a device's signatures under this version of its keys. Raises EnvelopeBroken.

    It must be `good` now. For an update that was kept it is enough that it was so then: whoever rotates its
    keys meanwhile takes nothing back. One that was revoked never counts.
    """
    moment = now()
    for key in session.exec(select(DeviceKey).where(DeviceKey.device_id == device_id)):
        if key.version == key_version and key.revoked_at is None and (not good or is_good(key, moment)):
            return VerifyingKey.from_bytes(key.signing_key)
    raise EnvelopeBroken("it names keys that this device has not, or has no longer")


def _not_taken(part: Participation) -> str:
    return f"this update is not taken any more: {part.reason}"


def require_named_compression(manifest: Manifest, beginning: bytes) -> None:
    """Raises EnvelopeBroken when a payload begins with the word that it is not what its manifest says."""
    named = compression_in(beginning, EARLY_HEADER_BYTES)
    if named is not None and named != manifest.compression:
        raise EnvelopeBroken(OTHER_COMPRESSION)


def receipt_of(part: Participation, signer: Signer) -> dict[str, Any]:
    """The proof that an update has arrived, signed by the workbench."""
    told = {
        "round_id": part.round_id,
        "device_id": part.device_id,
        "envelope_sha256": part.digest,
        "size_bytes": part.size_bytes,
        "received_at": part.submitted_at,
    }
    return signer.signed(told, RECEIPT_CONTEXT)
