"""Taking part in one round: join, wait, fetch the model, learn, seal, submit.

Each of these may be interrupted and done again: joining twice is joining once, and an update that was sealed
is kept until its receipt has come, and sent again as it is.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy

from tg_workbench.crypto.envelopes import seal
from tg_workbench.crypto.hpke import SealingKey
from tg_workbench.crypto.manifests import Claim
from tg_workbench.crypto.sealing import open_pieces
from tg_workbench.device.delivery import NEVER, Delivery
from tg_workbench.device.folder import DeviceFolder, Identity
from tg_workbench.device.memories import CONTROL_KIND, RESIDUAL_KIND, Memories
from tg_workbench.device.rows import Rows
from tg_workbench.device.sealed_updates import SealedUpdate, SealedUpdates
from tg_workbench.device.trust import Trust
from tg_workbench.engine.specs import Architecture
from tg_workbench.errors import CallFailed, RoundNotOpen
from tg_workbench.federation.strategies import Vector
from tg_workbench.federation.updates import Layout
from tg_workbench.federation.updates.bindings import (
    ASSIGNMENT_CONTEXT,
    RECEIPT_CONTEXT,
    download_context,
    model_key_info,
)
from tg_workbench.federation.updates.compression import Compression, compressed
from tg_workbench.federation.updates.layout import CONTROL
from tg_workbench.federation.updates.secure_aggregation.encoding import MASKED
from tg_workbench.sdk.connection import Connection

if TYPE_CHECKING:
    from tg_workbench.device.learning import Learned

OVER = ("completed", "failed")
PREPARING = "preparing"
PREPARING_SECONDS = 0.5
WAIT_SECONDS = 25.0
Told = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TookPart:
    """What a device did in a round."""

    round_id: str
    campaign_id: str
    round_number: int
    status: str
    """How its part stands: `accepted`, or `submitted` while nobody has looked into it yet."""
    samples: int
    metrics: Mapping[str, float]
    receipt: Mapping[str, Any]

    def __str__(self) -> str:
        """One line."""
        told = ", ".join(f"{name} {value:.3g}" for name, value in self.metrics.items())
        return f"round {self.round_number} {self.status}: {self.samples} rows{f', {told}' if told else ''}"


class TakingPart:
    """One device's part in one round."""

    def __init__(self, connection: Connection, trust: Trust, folder: DeviceFolder, round_id: str) -> None:
        self.connection = connection
        self.trust = trust
        self.folder = folder
        self.round_id = round_id
        self.updates = SealedUpdates(folder)
        self._to_remember: dict[str, Vector] = {}
        """For a later round of the campaign, once the update is in a model."""

    @property
    def identity(self) -> Identity:
        """Whose part it is."""
        return self.trust.identity

    def join(self, wait: float = 0.0) -> Told:
        """Join, or ask again how it stands; the answer may come later, when the round trains.

        Raises RoundNotOpen, DeviceUnfit, RoundNotFound.
        """
        return self.connection.post(f"/api/v1/fl/rounds/{self.round_id}/join", wait=wait)

    def await_assignment(self, seconds: float) -> Told | None:
        """What to do, once the round trains; None when it ended before. Raises CallFailed after `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            left = max(0.0, deadline - time.monotonic())
            try:
                joined = self.join(min(WAIT_SECONDS, left))
            except RoundNotOpen as early:
                if getattr(early, "phase", None) != PREPARING or left <= 0:
                    raise
                time.sleep(PREPARING_SECONDS)
                continue
            if joined.get("assignment") is not None:
                return self.checked(joined["assignment"])
            if joined["phase"] in OVER or joined["participation"]["status"] != "joined":
                return None
            if time.monotonic() > deadline:
                raise CallFailed(f"round {self.round_id} has not begun to train after {seconds:g} seconds")

    def checked(self, assignment: Told) -> Told:
        """An assignment that the server has signed, for this device and round. Raises AssignmentInvalid."""
        expected = {
            "v": 1,
            "organization_id": self.identity.organization_id,
            "device_id": self.identity.device_id,
            "round_id": self.round_id,
        }
        otherwise = "it is for another device or another round"
        self.trust.require_signed(assignment, ASSIGNMENT_CONTEXT, expected, otherwise)
        return assignment

    def learn(self, assignment: Told, rows: Rows, evaluation: Rows | None = None) -> tuple[bytes, Learned]:
        """The sealed update. Raises SealBroken, AssignmentInvalid, InvalidBatch."""
        learned, layout = self.learned(assignment, rows, evaluation)
        return self.sealed(assignment, self._encoded(assignment, layout, learned), learned), learned

    def learned(self, assignment: Told, rows: Rows, evaluation: Rows | None = None) -> tuple[Learned, Layout]:
        """What is learned, and how the model is laid out. Raises SealBroken, InvalidBatch."""
        from tg_workbench.device.learning import LocalTrainer, Task  # brings torch, which enrolling needs not

        model, training = assignment["model"], assignment["training"]
        layout = Layout.from_json(model["layout"])
        start, server_control = self._fetch(assignment, layout)
        task = Task(
            architecture=model["architecture"],
            shape=Architecture(
                tuple(model["input_shape"]), model["output_size"], tuple(model["hidden_sizes"])
            ),
            layout=layout,
            **training,
            seed=int.from_bytes(hashlib.sha256(self.round_id.encode()).digest()[:6], "big"),
        )
        campaign = assignment["campaign_id"]
        self._settle(assignment)
        own = self.folder.remembered(CONTROL_KIND, campaign, layout.size) if task.control else None
        learned = LocalTrainer(task).learn(rows, start, server_control, own, evaluation=evaluation)
        if own is not None and learned.control_delta is not None:
            self._to_remember[CONTROL_KIND] = own + learned.control_delta
        return learned, layout

    def submit(self, assignment: Told, envelope: bytes, learned: Learned) -> TookPart:
        """Send the update until it has arrived, and check the receipt; until then it is kept in the folder.

        Raises what `deliver` does, and DeviceFolderUnusable.
        """
        update = SealedUpdate(
            round_id=self.round_id,
            campaign_id=assignment["campaign_id"],
            round_number=assignment["round_number"],
            samples=learned.samples,
            metrics=dict(learned.metrics),
            sha256=hashlib.sha256(envelope).hexdigest(),
            size=len(envelope),
            kinds=tuple(self._to_remember),
        )
        self.updates.keep(update, envelope, self._to_remember)
        return self.deliver(update)

    def kept(self) -> SealedUpdate | None:
        """The update for this round whose receipt has not come yet."""
        return self.updates.get(self.round_id)

    def deliver(self, update: SealedUpdate) -> TookPart:
        """Send an update that was kept, on from where it stopped; the receipt, also of one that has arrived.

        Raises UpdateRejected, RoundNotOpen, CallFailed, AssignmentInvalid for a receipt of something else.
        """
        try:
            told = Delivery(self.connection, self.updates, update).send()
        except NEVER:
            self.updates.forget(self.round_id)
            raise
        receipt = told["receipt"]
        expected = {
            "round_id": self.round_id,
            "device_id": self.identity.device_id,
            "envelope_sha256": update.sha256,
        }
        self.trust.require_signed(receipt, RECEIPT_CONTEXT, expected, "its receipt is for another update")
        self.updates.arrived(update)
        return TookPart(
            round_id=self.round_id,
            campaign_id=update.campaign_id,
            round_number=update.round_number,
            status=told["status"],
            samples=update.samples,
            metrics=update.metrics,
            receipt=receipt,
        )

    # ------------------------------------------------------------------------------- inside
    def _fetch(self, assignment: Told, layout: Layout) -> tuple[Vector, Vector | None]:
        """The round's model as one vector, and the server's control variate where there is one."""
        identity, model = self.identity, assignment["model"]
        info = model_key_info(identity.organization_id, self.round_id, identity.device_id)
        key = identity.opening_key.open(base64.b64decode(model["wrapped_key"]), info)
        sealed = self.connection.download(f"/workbench/v1/federation/rounds/{self.round_id}/model")
        content = b"".join(open_pieces(key, BytesIO(sealed), download_context(self.round_id)))
        arrays = safetensors.numpy.load(content)
        controls = {
            name.removeprefix(CONTROL): array for name, array in arrays.items() if name.startswith(CONTROL)
        }
        weights = {name: array for name, array in arrays.items() if not name.startswith(CONTROL)}
        start = layout.vector(weights)
        if not assignment["training"]["control"]:
            return start, None
        return start, layout.vector(controls) if controls else np.zeros(layout.size, np.float32)

    def _settle(self, assignment: Told) -> None:
        """Begin with what this device's last round left that is in a model, by what the workbench says."""
        memories, campaign = Memories(self.folder), assignment["campaign_id"]
        if "last_counted_round" not in assignment:  # it is older than that word
            memories.settle_by_receipts(campaign)
            return
        counted = assignment["last_counted_round"]
        if counted is not None and (update := self.updates.get(counted)) is not None:
            self.updates.arrived(update)  # its receipt has not come, but this says more
        memories.settle(campaign, counted)

    def _encoded(self, assignment: Told, layout: Layout, learned: Learned) -> bytes:
        """The update as bytes, made smaller as the round asks; what is left out waits for the next one."""
        vector, whole = learned.delta, layout
        if learned.control_delta is not None:
            vector, whole = np.concatenate([vector, learned.control_delta]), layout.with_control()
        asked, campaign = Compression(**assignment["compression"]), assignment["campaign_id"]
        if asked.kind == "none":
            return compressed(vector, whole, asked).payload
        residual = self.folder.remembered(RESIDUAL_KIND, campaign, whole.size)
        made = compressed(vector, whole, asked, residual)
        if made.residual is not None:
            self._to_remember[RESIDUAL_KIND] = made.residual
        return made.payload

    def sealed(self, assignment: Told, content: bytes, learned: Learned | None = None) -> bytes:
        """An envelope around an update; without `learned` it says nothing of what that came from."""
        identity = self.identity
        claim = Claim(
            organization_id=identity.organization_id,
            device_id=identity.device_id,
            round_id=self.round_id,
            model_version=f"v{assignment['model']['version']}",
            key_version=identity.key_version,
            sample_count=1 if learned is None else learned.samples,
            metrics=learned.metrics if learned is not None and assignment["reports_metrics"] else {},
            compression=MASKED if learned is None else assignment["compression"]["kind"],
        )
        seal_to = SealingKey.from_bytes(base64.b64decode(assignment["seal_to"]))
        return b"".join(seal(claim, content, identity.signing_key, seal_to))
