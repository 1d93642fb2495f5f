"""TreePlan: how far one device moves everything that a tree of noise releases, and so what the tree costs.

In tree aggregation (Dwork, Naor, Pitassi and Rothblum 2010; Chan, Shi and Song 2011; DP-FTRL: Kairouz,
McMahan, Song, Thakkar, Thakurta and Xu 2021) step t completes one node, that of the last 2^j steps, 2^j being
the largest power of two that divides t. A noisy prefix sum is the sum of a few nodes, so what is released are
the nodes. All of them together are one Gaussian release, also when later sums depend on earlier ones
(Denisov, McMahan, Rush, Smith and Thakurta 2022), whose sensitivity is √S · clip_norm with S = Σ (how often a
device is in a node)².

A device that is in one step of a tree is in one node per level at most: S = ⌊log₂ T⌋ + 1, as in the paper's
appendix D and in `dp_accounting`. For several, S is bounded level by level from how often it may come and how
far apart.

What is hidden is what a device's deltas were, against their having been zero (`REPLACE_SPECIAL` in that
library): not that it took part, because leaving it out could move everybody after it to another step.

Pitfalls: no sampling is assumed, nor helps. Who came when must be held to the plan while the tree grows.
"""

from __future__ import annotations

from dataclasses import dataclass

from tg_workbench.errors import InvalidRequest
from tg_workbench.privacy.steps import GaussianStep

MOST_TREE_STEPS = 1 << 16


@dataclass(frozen=True, slots=True)
class TreePlan:
    """A tree of `steps` steps, in which a device takes part `participations` times, `separation` steps apart.

    Afterwards a new tree begins, and is charged anew.
    """

    steps: int
    participations: int = 1
    separation: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= MOST_TREE_STEPS:
            raise InvalidRequest(f"a tree has from 1 to {MOST_TREE_STEPS} steps")
        if not 1 <= self.participations <= self.steps or not 1 <= self.separation <= self.steps:
            raise InvalidRequest("participations and separation lie between 1 and the steps of the tree")

    @property
    def squared_sensitivity(self) -> int:
        """S: the square of how many clipping norms a device moves all nodes of the tree by, at most."""
        return sum(self._of_level(1 << level) for level in range(self.steps.bit_length()))

    def _of_level(self, length: int) -> int:
        """Σ over the nodes of `length` steps of (how often a device is in it)², at most."""
        in_one = min(self.participations, -(-length // self.separation))
        nodes = self.steps // length
        full, rest = divmod(self.participations, in_one)
        if full >= nodes:
            return nodes * in_one**2
        return full * in_one**2 + rest**2

    def as_one_step(self, noise_multiplier: float) -> GaussianStep:
        """The whole tree, to the accountant: one release without sampling. `noise_multiplier`: of a node."""
        return GaussianStep(noise_multiplier / self.squared_sensitivity**0.5, 1.0)

    def node_noise(self, noise_multiplier: float) -> float:
        """What a node gets where the whole tree is to be a release of `noise_multiplier`."""
        return noise_multiplier * float(self.squared_sensitivity**0.5)
