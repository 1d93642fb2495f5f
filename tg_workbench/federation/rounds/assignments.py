"""Assignments: what a device is told to do in a round, signed, so that nobody else tells it whom to seal to.

The key of the round's model comes sealed to the device's own key: who records the traffic today opens it at
no later time, whatever the line was protected by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlmodel import Session

from tg_workbench.crypto.hpke import SealingKey
from tg_workbench.crypto.manifests import text_of
from tg_workbench.crypto.signatures import SigningKey
from tg_workbench.federation.devices.server_keys import ServerKeys
from tg_workbench.federation.devices.sign_in import SignedDevice
from tg_workbench.federation.flower import strategy_named
from tg_workbench.federation.rounds.exchange import Exchange
from tg_workbench.federation.rounds.keys import RoundKeys
from tg_workbench.federation.rounds.lateness import is_served
from tg_workbench.federation.rounds.masking import encoding_of, look_seconds
from tg_workbench.federation.rounds.parts import last_counted
from tg_workbench.federation.rounds.phases import Part
from tg_workbench.federation.rounds.specs import CampaignSpec
from tg_workbench.federation.rounds.tables import Participation, Round
from tg_workbench.federation.rounds.turns import spec_of
from tg_workbench.federation.updates.bindings import ASSIGNMENT_CONTEXT, canonical, model_key_info


@dataclass(frozen=True, slots=True)
class Signer:
    """What signs in the workbench's name: a version of its key for devices."""

    key: SigningKey = field(repr=False)
    key_version: str

    @classmethod
    def of(cls, keys: ServerKeys) -> Signer:
        """The newest version."""
        key = keys.current()
        return cls(keys.signing_key(key), key.version)

    def signed(self, told: Mapping[str, Any], context: bytes) -> dict[str, Any]:
        """The same with `key_version` and `signature`, which is about all the rest."""
        whole = {**told, "key_version": self.key_version}
        return {**whole, "signature": text_of(self.key.sign(canonical(whole), context))}


class Assignments:
    """Writes assignments."""

    def __init__(self, session: Session, home: Path) -> None:
        self.session = session
        self.home = home

    def of(self, signed: SignedDevice, round_: Round, part: Participation) -> dict[str, Any] | None:
        """What a device does in a round; None unless the round trains, or still waits for its update."""
        device, key, spec = signed.device, signed.key, spec_of(self.session, round_)
        if part.status != Part.JOINED or not is_served(round_, spec):
            return None
        keys = RoundKeys.of(self.session, self.home, round_)
        info = model_key_info(device.organization_id, round_.id, device.id)
        wrapped = SealingKey.from_bytes(key.encryption_key).seal(keys.model_key, info)
        rule = strategy_named(spec.strategy, **spec.strategy_options).local
        shape, local = spec.shape, spec.local
        told = {
            "v": 1,
            "organization_id": device.organization_id,
            "device_id": device.id,
            "round_id": round_.id,
            "campaign_id": round_.campaign_id,
            "round_number": round_.number,
            "last_counted_round": last_counted(self.session, round_.campaign_id, device.id),
            "ends_at": round_.due_at,
            "model": {
                "version": round_.base_version,
                "sha256": round_.base_digest,
                "layout": round_.layout,
                "architecture": spec.architecture,
                "input_shape": list(shape.input_shape),
                "output_size": shape.output_size,
                "hidden_sizes": list(shape.hidden_sizes),
                "wrapped_key": text_of(wrapped),
                "size_bytes": round_.download_bytes,
            },
            "training": {
                "learning_rate": local.learning_rate,
                "batch_size": local.batch_size,
                "epochs": local.epochs,
                "proximal": rule.proximal,
                "control": rule.control,
            },
            "compression": {"kind": spec.compression.kind, "keep": spec.compression.keep},
            "secure_aggregation": self._masking(round_, spec),
            "reports_metrics": not (spec.privacy.differential_privacy or spec.secure_aggregation),
            "seal_to": text_of(round_.public_key or b""),
        }
        return Signer.of(ServerKeys(self.session, self.home)).signed(told, ASSIGNMENT_CONTEXT)

    def _masking(self, round_: Round, spec: CampaignSpec) -> dict[str, Any] | None:
        """How updates are masked, and whose signatures count among the devices of the round."""
        if not spec.secure_aggregation:
            return None
        exchange = Exchange(self.session, round_)
        keys = {name: text_of(key.raw) for name, key in exchange.verifying_keys().items()}
        encoding = encoding_of(spec, exchange.devices)
        return {
            "keys": keys,
            "least": spec.criteria.needed,
            "encoding": encoding.as_json(),
            "look_seconds": look_seconds(spec),
        }
