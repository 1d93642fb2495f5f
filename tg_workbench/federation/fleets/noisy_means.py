"""Noisy means: from what was paid for and the devices' deltas to the one vector that a strategy gets.

What was charged says how to clip, how much noise there is, where it comes from, what to divide by, and whose
deltas are added up in which order. Nothing of that can be said another time here.
"""

from __future__ import annotations

from collections.abc import Iterable

from tg_workbench.errors import PrivacyRefused
from tg_workbench.federation.fleets.releases import Charged, PaidTree
from tg_workbench.federation.updates.secure_aggregation import Encoding, Total
from tg_workbench.privacy.adaptive_clipping import AdaptiveClip
from tg_workbench.privacy.clipping import ClippedSum
from tg_workbench.privacy.tree_noise import grow
from tg_workbench.privacy.trees import Tree
from tg_workbench.privacy.user_level import (
    ClippedDeltas,
    Vector,
    noisy_mean,
    sum_that_devices_say_they_clipped,
)

Deltas = Iterable[tuple[str, Vector]]
"""Each device's id and delta, one at a time, in the order of ids."""


def mean_of_round(charged: Charged, deltas: Deltas, size: int) -> Vector:
    """The noisy mean of a round. Raises PrivacyRefused for other devices than were charged."""
    clipped = _clipped(charged.devices, charged.clip_norm, deltas, size)
    noise, divisor = charged.noise_multiplier, charged.expected_devices
    return noisy_mean(clipped, noise, divisor, generator=charged.generator())


def mean_of_masked_round(charged: Charged, total: Total, encoding: Encoding) -> Vector:
    """The noisy mean of a round whose devices have clipped and masked what they sent.

    What is added up goes around modulo 2^32, so the noisy sum does, too. Raises PrivacyRefused for other
    devices, or for another norm, than were charged.
    """
    if total.device_ids != charged.devices or encoding.clip_norm != charged.clip_norm:
        raise PrivacyRefused("the updates are not those that were charged, in the order of device ids")
    devices = len(total.device_ids)
    summed = encoding.sum_of(total.words, devices)
    clipped = sum_that_devices_say_they_clipped(summed, charged.clip_norm, devices)
    noise, divisor = charged.noise_multiplier, charged.expected_devices
    mean = noisy_mean(clipped, noise, divisor, generator=charged.generator())
    return encoding.brought_back(mean, divisor)


def adaptive_mean_of_round(
    charged: Charged, clip: AdaptiveClip, deltas: Deltas, size: int
) -> tuple[Vector, AdaptiveClip]:
    """The same where the norm follows a quantile: also the next round's norm. Both are in the charge."""
    clipped = _clipped(charged.devices, charged.clip_norm, deltas, size)
    noise, divisor = charged.noise_multiplier, charged.expected_devices
    return clip.release(clipped, noise, divisor, generator=charged.generator())


def mean_of_tree_round(paid: PaidTree, deltas: Deltas, size: int) -> tuple[Vector, Tree]:
    """A round's part of the noisy prefix mean, and the tree as it has grown: for `TreeBudget.released`."""
    clipped = _clipped(paid.devices, paid.tree.clip_norm, deltas, size)
    return grow(paid.tree, clipped, paid.context, paid.expected_devices)


def _clipped(devices: tuple[str, ...], clip_norm: float, deltas: Deltas, size: int) -> ClippedSum:
    summed, came = ClippedDeltas(size, clip_norm), []
    for device_id, delta in deltas:
        came.append(device_id)
        summed.add(delta)
    if tuple(came) != devices:
        raise PrivacyRefused("the updates are not those that were charged, in the order of device ids")
    return summed.finish()
