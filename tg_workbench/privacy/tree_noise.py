"""Noise in a tree: DP-FTRL for devices that come when they like (Kairouz et al. 2021, plain binary tree).

Every prefix sum of clipped deltas carries at most log₂ T draws of noise instead of T. A step hands out its
own sum and the difference of two prefixes' noise: the noise of nodes that are replaced is taken back out of
the model. What such a tree costs says `trees.TreePlan`.

The noise of a node is derived from a secret seed, the step that completes it and all that this step adds up,
so the state is a seed and a few digests: it is kept as JSON, sealed, and a step that a crash interrupts comes
out the same. A step that is done again with other deltas draws other noise.

Pitfalls: the clipping norm and the noise stay what they are while a tree lasts. Whoever has the seed can
subtract all noise: it is kept until the tree is done, sealed, and then destroyed. Variance reduction (Honaker
2015) would halve the noise of a large prefix; it is not done here.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field, replace

import torch

from tg_workbench.errors import InvalidRequest
from tg_workbench.privacy.clipping import ClippedSum
from tg_workbench.privacy.noise import secure_gaussian
from tg_workbench.privacy.randomness import ReplayableRandom
from tg_workbench.privacy.trees import TreePlan
from tg_workbench.privacy.user_level import DELTA, Vector, require_public_count


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree, grown as far as `step`. Its seed is a secret."""

    plan: TreePlan
    noise_multiplier: float
    """Of a node: its noise is N(0, (noise_multiplier · clip_norm)²)."""
    clip_norm: float
    seed: bytes = field(repr=False)
    step: int = 0
    nodes: tuple[tuple[int, str], ...] = ()
    """What the last prefix is made of: the step that completed each node, and what that step added up."""

    def __post_init__(self) -> None:
        if not 0.0 < self.noise_multiplier < math.inf or not 0.0 < self.clip_norm < math.inf:
            raise InvalidRequest("a tree needs a noise_multiplier and a clip_norm above 0, both finite")

    @classmethod
    def begin(cls, plan: TreePlan, noise_multiplier: float, clip_norm: float) -> Tree:
        """A tree of a seed of its own."""
        return cls(plan, noise_multiplier, clip_norm, ReplayableRandom.new_seed())

    def grow(self, clipped: ClippedSum, context: bytes, expected_devices: float) -> tuple[Vector, Tree]:
        """The next step's part of the noisy prefix mean, and the tree after it.

        `context` names all that was added up (which devices, which bytes). Raises InvalidRequest.
        """
        require_public_count(expected_devices)
        if not isinstance(clipped, ClippedSum):
            raise TypeError("noise can only be added to a ClippedSum: without a bound it promises nothing")
        if clipped.bound != self.clip_norm:
            raise InvalidRequest("the clip_norm of a tree stays what it was when it began")
        if self.step >= self.plan.steps:
            raise InvalidRequest(f"this tree has {self.plan.steps} steps: begin another one")
        after = self._after(context)
        kept = set(after.nodes)
        total = clipped.tensors[DELTA].double()
        size, scale = total.numel(), self.noise_multiplier * self.clip_norm
        total = total + scale * self._noise(after.nodes[-1], size)
        for node in self.nodes:
            if node not in kept:
                total = total - scale * self._noise(node, size)
        return (total / expected_devices).float().numpy(), after

    def _after(self, context: bytes) -> Tree:
        step = self.step + 1
        begins = step - (step & -step)  # the new node covers the steps after this one
        kept = tuple(node for node in self.nodes if node[0] <= begins)
        new = (step, hashlib.sha256(context).hexdigest())
        return replace(self, step=step, nodes=(*kept, new))

    def _noise(self, node: tuple[int, str], size: int) -> torch.Tensor:
        completed, digest = node
        generator = ReplayableRandom(self.seed, f"tree|{completed}|{digest}".encode())
        return secure_gaussian((size,), generator=generator, hardened=True)

    def as_bytes(self) -> bytes:
        """JSON, with the seed: for under a seal only."""
        plan = [self.plan.steps, self.plan.participations, self.plan.separation]
        kept = {
            "format": 1,
            "plan": plan,
            "noise_multiplier": self.noise_multiplier,
            "clip_norm": self.clip_norm,
            "seed": self.seed.hex(),
            "step": self.step,
            "nodes": self.nodes,
        }
        return json.dumps(kept).encode()

    @classmethod
    def from_bytes(cls, kept: bytes) -> Tree:
        """What `as_bytes` said. Raises InvalidRequest."""
        try:
            told = json.loads(kept)
            if told["format"] != 1:
                raise ValueError("another format")
            return cls(
                TreePlan(*map(int, told["plan"])),
                float(told["noise_multiplier"]),
                float(told["clip_norm"]),
                bytes.fromhex(told["seed"]),
                int(told["step"]),
                tuple((int(completed), str(digest)) for completed, digest in told["nodes"]),
            )
        except (TypeError, ValueError, KeyError) as failure:
            raise InvalidRequest("this is no tree") from failure
