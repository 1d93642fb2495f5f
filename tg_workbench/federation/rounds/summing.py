"""Summing: the updates of a round become one outcome, by its strategy, and with privacy through noise alone.

With differential privacy the fleet is charged, durably, before any noise is drawn; the noise comes from what
was stored with the charge, so whoever takes the round up again after a crash makes the same model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlmodel import Session

from tg_workbench.execution import Fence
from tg_workbench.federation.fleets.budgets import FleetBudget
from tg_workbench.federation.fleets.noisy_means import (
    adaptive_mean_of_round,
    mean_of_masked_round,
    mean_of_round,
    mean_of_tree_round,
)
from tg_workbench.federation.fleets.privacy_settings import NO_GUARANTEE
from tg_workbench.federation.fleets.releases import Charged, PaidTree, Release
from tg_workbench.federation.fleets.tree_budgets import TreeBudget
from tg_workbench.federation.flower import strategy_named
from tg_workbench.federation.rounds.global_models import GlobalModel
from tg_workbench.federation.rounds.masking import clipping_of
from tg_workbench.federation.rounds.specs import CampaignSpec
from tg_workbench.federation.rounds.tables import Campaign, Participation, Round
from tg_workbench.federation.strategies import Outcome, Update
from tg_workbench.federation.updates.secure_aggregation import Encoding, Total
from tg_workbench.privacy.adaptive_clipping import AdaptiveClip
from tg_workbench.privacy.trees import Tree
from tg_workbench.security import Vault
from tg_workbench.storage import Blobs, Database

Opened = Callable[[Participation], Update]


@dataclass(frozen=True, slots=True)
class Summed:
    """What a round came to, and what is to be written with it."""

    outcome: Outcome
    privacy: dict[str, Any]
    release: Release | None = None
    clip: dict[str, Any] | None = None
    grown: Tree | None = None


@dataclass(frozen=True, slots=True)
class Masked:
    """The sum of a round whose devices have masked what they sent, and how they have written it."""

    total: Total
    encoding: Encoding


class Summing:
    """Makes one outcome out of a round's updates."""

    def __init__(self, database: Database, blobs: Blobs, home: Path, fence: Fence) -> None:
        self.database = database
        self.vault = Vault(blobs, home)
        self.fence = fence

    def of(
        self, campaign: Campaign, round_: Round, base: GlobalModel, parts: list[Participation], opened: Opened
    ) -> Summed:
        """The outcome of these updates, which `opened` opens, in this order.

        Raises BudgetExhausted, PrivacyRefused, TooFewUpdates and what `opened` does.
        """
        spec = CampaignSpec.from_json(campaign.spec)
        aggregation = strategy_named(spec.strategy, **spec.strategy_options).begin(
            base.parameters, base.state
        )
        if not spec.privacy.differential_privacy:
            for part in parts:
                aggregation.add(opened(part))
            return Summed(aggregation.finish(), dict(NO_GUARANTEE))
        release = release_of(campaign, round_, spec, base, parts)
        deltas = ((part.device_id, opened(part).delta) for part in parts)
        if spec.privacy.mechanism == "dp_ftrl":
            return self._in_tree(spec, release, deltas, aggregation, base)
        return self._fresh(campaign, spec, release, deltas, aggregation, base)

    def of_masked(
        self,
        campaign: Campaign,
        round_: Round,
        base: GlobalModel,
        parts: list[Participation],
        masked: Masked,
    ) -> Summed:
        """The outcome of a sum under masks, of these devices. Raises as `of`."""
        spec, total, encoding = CampaignSpec.from_json(campaign.spec), masked.total, masked.encoding
        aggregation = strategy_named(spec.strategy, **spec.strategy_options).begin(
            base.parameters, base.state
        )
        devices = len(total.device_ids)
        if not spec.privacy.differential_privacy:
            mean, samples = encoding.mean_of(total.words, devices)
            aggregation.add(Update(mean, weight=float(samples), devices=devices))
            return Summed(aggregation.finish(), dict(NO_GUARANTEE))
        release = release_of(campaign, round_, spec, base, parts)
        charged = self._charged(release)
        aggregation.add(Update(mean_of_masked_round(charged, total, encoding), weight=1.0))
        return Summed(aggregation.finish(), view_of(spec, release, charged), release)

    def write(self, session: Session, campaign: Campaign, round_: Round, summed: Summed) -> None:
        """In the transaction that stores the model: what was released is so once, its seed is destroyed."""
        if summed.release is None:
            FleetBudget(session, self.vault).released_plain(campaign.tenant_id)
        elif summed.grown is not None:
            TreeBudget(session, self.vault).released(summed.release, summed.grown)
        else:
            FleetBudget(session, self.vault).released(round_.id)
        if summed.clip is not None:
            campaign.clip = summed.clip
        round_.privacy = summed.privacy

    def give_up(self, session: Session, round_: Round) -> None:
        """No model comes of a round: the seed of its noise is destroyed."""
        FleetBudget(session, self.vault).given_up(round_.id)

    # ------------------------------------------------------------------------------- with noise
    def _fresh(
        self,
        campaign: Campaign,
        spec: CampaignSpec,
        release: Release,
        deltas: Iterator[tuple[str, Any]],
        aggregation: Any,
        base: GlobalModel,
    ) -> Summed:
        charged = self._charged(release)
        size, clip = base.layout.size, None
        if spec.privacy.adaptive_clipping:
            before = clip_of(campaign, spec)
            mean, after = adaptive_mean_of_round(charged, before, deltas, size)
            clip = after.as_json()
        else:
            mean = mean_of_round(charged, deltas, size)
        aggregation.add(Update(mean, weight=1.0))
        return Summed(aggregation.finish(), view_of(spec, release, charged), release, clip)

    def _charged(self, release: Release) -> Charged:
        """A release that is paid for. Raises BudgetExhausted, PrivacyRefused."""
        with self.database.read() as session:
            FleetBudget(session, self.vault).require_room(release)
        with self.database.write(durable=True) as session:
            self.fence.hold(session)
            return FleetBudget(session, self.vault).charge(release)

    def _in_tree(
        self,
        spec: CampaignSpec,
        release: Release,
        deltas: Iterator[tuple[str, Any]],
        aggregation: Any,
        base: GlobalModel,
    ) -> Summed:
        with self.database.write(durable=True) as session:
            self.fence.hold(session)
            paid = TreeBudget(session, self.vault).charge(release, spec.privacy)
        mean, grown = mean_of_tree_round(paid, deltas, base.layout.size)
        aggregation.add(Update(mean, weight=1.0))
        return Summed(aggregation.finish(), view_of(spec, release, paid), release, None, grown)


def release_of(
    campaign: Campaign, round_: Round, spec: CampaignSpec, base: GlobalModel, parts: list[Participation]
) -> Release:
    """What is about to be made of these updates."""
    clip_norm = spec.privacy.clip_norm
    if spec.privacy.adaptive_clipping:
        clip_norm = clip_of(campaign, spec).clip_norm
    return Release(
        round_id=round_.id,
        campaign_id=campaign.id,
        tenant_id=campaign.tenant_id,
        actor=campaign.owner_id,
        number=round_.number,
        base=base.digest,
        contributions=tuple((part.device_id, part.digest or "") for part in parts),
        noise_multiplier=spec.noise_multiplier or 0.0,
        clip_norm=clip_norm,
        quorum=spec.criteria.target,
        target_epsilon=spec.privacy.target_epsilon,
    )


def clip_of(campaign: Campaign, spec: CampaignSpec) -> AdaptiveClip:
    """The norm that a campaign's next round clips to."""
    if campaign.clip is not None:
        return AdaptiveClip.from_json(campaign.clip)
    return AdaptiveClip.begin(spec.privacy.clip_norm, spec.noise_multiplier or 0.0, spec.criteria.target)


def view_of(spec: CampaignSpec, release: Release, paid: Charged | PaidTree) -> dict[str, Any]:
    """What every answer about the round says of its privacy."""
    accountant = paid.accountant if isinstance(paid, Charged) else "pld"
    view = spec.privacy.view(
        delta=paid.delta,
        noise_multiplier=release.noise_multiplier,
        epsilon=paid.epsilon,
        round_epsilon=paid.round_epsilon,
        accountant=accountant,
    )
    told = {"clip_norm": release.clip_norm, "fleet_epsilon": paid.fleet_epsilon}
    return {**view, **told, "clipping": clipping_of(spec)}
