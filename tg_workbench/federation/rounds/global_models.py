"""Global models: what a campaign has learned so far, and what its strategy remembers beside it.

They lie sealed under the tenant's key. What devices get is the same numbers sealed once under a key of the
round, which is given to each device under the device's own key: one file for all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from sqlmodel import Session

from tg_workbench.crypto import seal_pieces
from tg_workbench.engine.architectures import build
from tg_workbench.errors import SealBroken
from tg_workbench.federation.rounds.keys import RoundKeys
from tg_workbench.federation.rounds.specs import CampaignSpec
from tg_workbench.federation.rounds.tables import Campaign, Round
from tg_workbench.federation.strategies import Outcome, State, Vector
from tg_workbench.federation.updates import Layout
from tg_workbench.federation.updates.bindings import download_context
from tg_workbench.federation.updates.layout import CONTROL
from tg_workbench.security import Vault
from tg_workbench.storage import Blobs, Database

SCALAR = "~number/"
"""Before the names of a strategy's single numbers, which are kept as arrays of one float64."""
SERVER_CONTROL = "control"
"""What SCAFFOLD calls its own control variate in its state: devices get it with the model."""
PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class GlobalModel:
    """Parameters, as named tensors and as one vector, and the strategy's state."""

    version: int
    layout: Layout
    parameters: Vector
    state: State

    @classmethod
    def new(cls, spec: CampaignSpec) -> GlobalModel:
        """The model that a campaign starts from: the same each time, by its seed. Raises InvalidRequest."""
        module = build(spec.architecture, spec.shape, Path(), seed=spec.seed).module
        arrays = {name: parameter.detach().numpy() for name, parameter in module.named_parameters()}
        layout = Layout.of({name: array.shape for name, array in arrays.items()})
        return cls(0, layout, layout.vector(arrays), {})

    @classmethod
    def read(cls, version: int, content: bytes, state: bytes) -> GlobalModel:
        """What was stored."""
        arrays = safetensors.numpy.load(content)
        layout = Layout.of({name: array.shape for name, array in arrays.items()})
        return cls(version, layout, layout.vector(arrays), _state_of(safetensors.numpy.load(state)))

    def followed_by(self, outcome: Outcome) -> GlobalModel:
        """The next version."""
        return GlobalModel(self.version + 1, self.layout, outcome.parameters, outcome.state)

    @cached_property
    def content(self) -> bytes:
        """The parameters as a safetensors file."""
        return safetensors.numpy.save(self.layout.arrays(self.parameters), {"format": "pt"})

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of that file."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def stored_state(self) -> bytes:
        """The strategy's state as a safetensors file."""
        arrays = {
            name if isinstance(value, np.ndarray) else SCALAR + name: np.atleast_1d(np.asarray(value))
            for name, value in self.state.items()
        }
        return safetensors.numpy.save(arrays)

    def for_devices(self) -> bytes:
        """What devices start from: the parameters, and SCAFFOLD's control variate where there is one."""
        control = self.state.get(SERVER_CONTROL)
        if not isinstance(control, np.ndarray):
            return self.content
        extra = {CONTROL + name: array for name, array in self.layout.arrays(control).items()}
        return safetensors.numpy.save({**self.layout.arrays(self.parameters), **extra}, {"format": "pt"})


@dataclass(frozen=True, slots=True)
class KeptModel:
    """A model's sealed blobs."""

    model_blob: str
    state_blob: str
    key_id: str

    @property
    def blobs(self) -> tuple[str, str]:
        """Both files."""
        return self.model_blob, self.state_blob


@dataclass(frozen=True, slots=True)
class Download:
    """The file that devices start from."""

    blob: str
    size_bytes: int


class GlobalModels:
    """The sealed models of campaigns. `announce` is told of each file before it is there."""

    def __init__(self, blobs: Blobs, home: Path, announce: Callable[[str], object]) -> None:
        self.vault = Vault(blobs, home)
        self.announce = announce

    def put(self, database: Database, campaign: Campaign, model: GlobalModel) -> KeptModel:
        """Store a model apart, before anything names it. Raises StorageFull."""
        with database.write() as session:
            key = self.vault.key_for(session, campaign.tenant_id)
        contents = {"model": model.content, "state": model.stored_state}
        model_blob, state_blob = (
            self.vault.put(key, (content,), _context(campaign, model.version, part), self.announce)
            for part, content in contents.items()
        )
        return KeptModel(model_blob, state_blob, key.key_id)

    def read(self, session: Session, campaign: Campaign) -> GlobalModel:
        """A campaign's model. Raises SealBroken."""
        if campaign.model_blob is None or campaign.state_blob is None or campaign.key_id is None:
            raise SealBroken
        key, version = self.vault.key(session, campaign.key_id), campaign.model_version
        content = self.vault.read(key, campaign.model_blob, _context(campaign, version, "model"))
        state = self.vault.read(key, campaign.state_blob, _context(campaign, version, "state"))
        return GlobalModel.read(version, content, state)

    def put_for_devices(self, model: GlobalModel, round_: Round, keys: RoundKeys) -> Download:
        """Store what the devices of a round start from. Raises StorageFull."""
        content = model.for_devices()
        pieces = (content[start : start + PIECE_BYTES] for start in range(0, len(content), PIECE_BYTES))
        sealed = seal_pieces(keys.model_key, pieces, download_context(round_.id))
        blob = self.vault.blobs.put(sealed, self.announce)
        return Download(blob, self.vault.size_bytes(blob))


def _context(campaign: Campaign, version: int, part: str) -> bytes:
    return f"campaign={campaign.id}|tenant={campaign.tenant_id}|version={version}|part={part}".encode()


def _state_of(arrays: Mapping[str, NDArray[np.generic]]) -> State:
    return {
        name.removeprefix(SCALAR): float(array[0]) if name.startswith(SCALAR) else array.astype(np.float32)
        for name, array in arrays.items()
    }
