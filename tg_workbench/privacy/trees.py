"""Tree: how far one tree of noise has grown, and the secret that its noise is derived from.

A prefix sum is made of a few nodes. The noise of a node is derived from the seed, the step that completes it
and all that this step adds up; so the state is a seed and a few digests, it is kept as JSON, sealed, and a
step that a crash interrupts comes out the same. A step that is done again with other deltas has other noise.

Pitfalls: whoever has the seed can subtract all noise. It is kept until the tree is done, sealed, and then
destroyed.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field, replace

from tg_workbench.errors import InvalidRequest
from tg_workbench.privacy.randomness import ReplayableRandom
from tg_workbench.privacy.tree_plans import TreePlan


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

    def after(self, context: bytes) -> Tree:
        """The tree with one step more, whose node is its last. `context` names all that the step adds up.

        Raises InvalidRequest when it has as many as were planned.
        """
        if self.step >= self.plan.steps:
            raise InvalidRequest(f"this tree has {self.plan.steps} steps: begin another one")
        step = self.step + 1
        begins = step - (step & -step)  # the new node covers the steps after this one
        kept = tuple(node for node in self.nodes if node[0] <= begins)
        new = (step, hashlib.sha256(context).hexdigest())
        return replace(self, step=step, nodes=(*kept, new))

    def stream(self, node: tuple[int, str]) -> ReplayableRandom:
        """What the noise of a node is drawn from, from its start."""
        completed, digest = node
        return ReplayableRandom(self.seed, f"tree|{completed}|{digest}".encode())

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
