"""Noise in a tree: DP-FTRL for devices that come when they like (Kairouz et al. 2021, plain binary tree).

Every prefix sum of clipped deltas carries at most log₂ T draws of noise instead of T. A step hands out its
own sum and the difference of two prefixes' noise: the noise of nodes that are replaced is taken back out of
the model. What such a tree costs says `TreePlan`.

Pitfalls: the clipping norm and the noise stay what they are while a tree lasts. Variance reduction (Honaker
2015) would halve the noise of a large prefix; it is not done here.
"""

from __future__ import annotations

import torch

from tg_workbench.errors import InvalidRequest
from tg_workbench.privacy.clipping import ClippedSum
from tg_workbench.privacy.noise import secure_gaussian
from tg_workbench.privacy.trees import Tree
from tg_workbench.privacy.user_level import DELTA, Vector, require_public_count


def grow(tree: Tree, clipped: ClippedSum, context: bytes, expected_devices: float) -> tuple[Vector, Tree]:
    """The next step's part of the noisy prefix mean, and the tree after it.

    `context` names all that was added up (which devices, which bytes). Raises InvalidRequest.
    """
    require_public_count(expected_devices)
    if not isinstance(clipped, ClippedSum):
        raise TypeError("noise can only be added to a ClippedSum: without a bound it promises nothing")
    if clipped.bound != tree.clip_norm:
        raise InvalidRequest("the clip_norm of a tree stays what it was when it began")
    after = tree.after(context)
    total = clipped.tensors[DELTA] + _noise(after, after.nodes[-1], clipped)
    for node in sorted(set(tree.nodes) - set(after.nodes)):  # in one order: the same bits
        total -= _noise(tree, node, clipped)
    return (total / expected_devices).float().numpy(), after


def _noise(tree: Tree, node: tuple[int, str], clipped: ClippedSum) -> torch.Tensor:
    drawn = secure_gaussian((clipped.tensors[DELTA].numel(),), generator=tree.stream(node), hardened=True)
    return drawn.mul_(tree.noise_multiplier * clipped.bound)
