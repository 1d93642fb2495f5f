"""Opening: from the envelope that a device has sent to what is in it, an update or one under masks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tg_workbench.crypto.envelopes import open_payload, read_head
from tg_workbench.crypto.manifests import Manifest
from tg_workbench.errors import EnvelopeBroken, NotFound, SealBroken, UpdateInvalid
from tg_workbench.federation.flower import strategy_named
from tg_workbench.federation.rounds.keys import RoundKeys
from tg_workbench.federation.rounds.specs import CampaignSpec
from tg_workbench.federation.rounds.submissions import OTHER_COMPRESSION, verifying_key
from tg_workbench.federation.rounds.tables import Participation, Round
from tg_workbench.federation.rounds.unmasking import words_in
from tg_workbench.federation.strategies import Update
from tg_workbench.federation.updates import Layout, compression_in, read_update
from tg_workbench.storage import Blobs, Database

if TYPE_CHECKING:
    from tg_workbench.federation.updates.secure_aggregation.masks import Words

UNUSABLE = (EnvelopeBroken, SealBroken, UpdateInvalid, NotFound)
"""Why an update cannot be used: it is no round's fault, and ends none."""


class Opening:
    """Opens the envelopes of one round."""

    def __init__(
        self, database: Database, blobs: Blobs, round_: Round, keys: RoundKeys, spec: CampaignSpec
    ) -> None:
        self.database = database
        self.blobs = blobs
        self.keys = keys
        self.strategy = strategy_named(spec.strategy, **spec.strategy_options)
        self.is_masked = spec.secure_aggregation
        self.layout = Layout.from_json(round_.layout or "")
        self.version = round_.base_version

    def check(self, part: Participation) -> None:
        """Raises one of UNUSABLE for an update that cannot be used."""
        if self.is_masked:
            self.words(part)
        else:
            self.update(part)

    def update(self, part: Participation, weight: float = 1.0, version: int | None = None) -> Update:
        """The update in an envelope; stale if it goes into a later version than it was made from.

        Raises one of UNUSABLE.
        """
        manifest, payload = self._opened(part)
        update = read_update(payload, self.layout, weight=weight, control=self.strategy.local.control)
        if compression_in(payload) != manifest.compression:
            raise UpdateInvalid(OTHER_COMPRESSION)
        return replace(update, staleness=0 if version is None else version - self.version)

    def words(self, part: Participation) -> tuple[str, Words]:
        """Whose masked vector is in an envelope, and the vector. Raises one of UNUSABLE."""
        return part.device_id, words_in(self._opened(part)[1], self.layout.size + 1)

    def _opened(self, part: Participation) -> tuple[Manifest, bytes]:
        with self.blobs.path(part.blob or "").open("rb") as file:
            head = read_head(file)
            with self.database.read() as session:
                signed_by = verifying_key(session, part.device_id, head.manifest.key_version, good=False)
            payload = b"".join(open_payload(head.verify(signed_by), file, self.keys.opening))
        return head.manifest, payload
