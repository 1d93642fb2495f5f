"""TreeBudget: a tree of noise, charged as a whole with its first round, and kept sealed from round to round.

Who takes part when is held to what the tree was charged for. A round that a crash interrupts goes on from the
tree as it was stored: with the same updates it comes out the same, with others it has other noise, and
neither costs more, because one of them only is ever out and the tree as a whole is paid. `Fleets.end_tree`
destroys the seed of one whose campaign has ended before it.
"""

from __future__ import annotations

from sqlmodel import Session, select

from tg_workbench.crypto import open_sealed, seal
from tg_workbench.errors import PrivacyRefused
from tg_workbench.federation.fleets.charging import Charging
from tg_workbench.federation.fleets.fleets import DEFAULT_EPSILON_CAP, Fleets
from tg_workbench.federation.fleets.privacy_settings import PrivacySettings
from tg_workbench.federation.fleets.releases import PaidTree, Release
from tg_workbench.federation.fleets.tables import Fleet, NoiseTree
from tg_workbench.privacy.tree_plans import TreePlan
from tg_workbench.privacy.trees import Tree
from tg_workbench.security import Vault
from tg_workbench.storage.database import now


class TreeBudget:
    """The trees of campaigns, in the transaction of `session`."""

    def __init__(
        self, session: Session, vault: Vault, *, default_cap: float | None = DEFAULT_EPSILON_CAP
    ) -> None:
        self.session = session
        self.vault = vault
        self.fleets = Fleets(session, default_cap=default_cap)
        self.charging = Charging(session)

    def charge(self, release: Release, settings: PrivacySettings) -> PaidTree:
        """The tree that a round grows; a new one is paid for. `release.noise_multiplier` is that of a node.

        Raises BudgetExhausted, PrivacyRefused; then nothing was written.
        """
        fleet = self.fleets.of(release.tenant_id)
        row = self.fleets.tree(release.campaign_id) or self._plant(fleet, release, settings)
        if (row.noise_multiplier, row.clip_norm) != (release.noise_multiplier, release.clip_norm):
            raise PrivacyRefused("noise and clip_norm of a tree stay what they were when it began")
        for device_id, _ in release.contributions:
            row.require_turn(device_id)
        key = self.vault.key(self.session, row.key_id)
        return PaidTree(
            epsilon=row.epsilon,
            round_epsilon=row.round_epsilon,
            fleet_epsilon=max(row.fleet_epsilon, fleet.spent_epsilon),  # others may have spent since
            delta=fleet.delta,
            number=row.number,
            expected_devices=float(release.quorum),
            devices=release.devices,
            context=release.context(release.quorum),
            tree=Tree.from_bytes(open_sealed(key.key, row.sealed or b"", _belongs_to(row))),
        )

    def released(self, release: Release, grown: Tree) -> None:
        """The round's model is stored, in this transaction: so are the tree as it has grown and who came."""
        row = self.fleets.tree(release.campaign_id)
        if row is None or grown.step != row.step + 1:
            raise PrivacyRefused("this round was never charged: no model may come of it")
        for device_id, _ in release.contributions:
            row.require_turn(device_id)
        row.step = grown.step
        came = {one: [*row.joined.get(one, []), grown.step] for one, _ in release.contributions}
        row.joined = {**row.joined, **came}
        self._keep(row, None if grown.step == row.steps else grown)

    def _plant(self, fleet: Fleet, release: Release, settings: PrivacySettings) -> NoiseTree:
        """The campaign's next tree, charged."""
        plan = TreePlan(settings.rounds_of_tree, settings.max_participations, settings.min_separation)
        before = select(NoiseTree).where(NoiseTree.campaign_id == release.campaign_id)
        number = len(self.session.exec(before).all())
        step = plan.as_one_step(release.noise_multiplier)
        cost = self.charging.cost(fleet, release, step)
        event_id = self.charging.write(fleet, release, step, cost, (release.campaign_id, number))
        row = NoiseTree(
            campaign_id=release.campaign_id,
            number=number,
            fleet_id=fleet.id,
            event_id=event_id,
            steps=plan.steps,
            participations=plan.participations,
            separation=plan.separation,
            noise_multiplier=release.noise_multiplier,
            clip_norm=release.clip_norm,
            epsilon=cost.epsilon,
            round_epsilon=cost.round_epsilon,
            fleet_epsilon=cost.fleet_epsilon,
            key_id=self.vault.key_for(self.session, release.tenant_id).key_id,
        )
        self._keep(row, Tree.begin(plan, release.noise_multiplier, release.clip_norm))
        return row

    def _keep(self, row: NoiseTree, tree: Tree | None) -> None:
        """Seal a tree into its row; None: it is done."""
        if tree is None:
            row.sealed, row.done_at = None, now()
        else:
            key = self.vault.key(self.session, row.key_id)
            row.sealed = seal(key.key, tree.as_bytes(), _belongs_to(row))
        self.session.add(row)
        self.session.flush()


def _belongs_to(row: NoiseTree) -> bytes:
    """What the seal of a tree is bound to."""
    return f"noise-tree|{row.fleet_id}|{row.campaign_id}|{row.number}".encode()
