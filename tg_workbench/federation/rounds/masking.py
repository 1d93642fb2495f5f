"""Masking: what secure aggregation asks of a campaign, and how the devices of its rounds write their updates.

Whoever starts a campaign hears at once what cannot go together with it, and why.
"""

from __future__ import annotations

from tg_workbench.errors import InvalidField, PrivacyRefused
from tg_workbench.federation.rounds.specs import CampaignSpec
from tg_workbench.federation.strategies.strategy import Strategy
from tg_workbench.federation.updates.secure_aggregation import LEAST_DEVICES, Encoding
from tg_workbench.federation.updates.secure_aggregation.encoding import MOST_NOISE, MOST_SAMPLES

MOST_DEVICES = 256
"""Each device is told the keys and the signatures of all others: 7 kB of each."""
SHORT, MASKED_BY = 0.1, 0.8
"""The parts of the training phase that a step of talking may take, and at which all vectors must be there."""
MOST_LOOK_SECONDS = 2.0
FIELD = "secure_aggregation"


def check_secure(spec: CampaignSpec, strategy: Strategy) -> None:
    """Raises InvalidField, or PrivacyRefused, for what secure aggregation cannot go together with."""
    _require(
        not strategy.needs_each_update,
        f"must be false with {spec.strategy}: it looks at every single update, and there is only their sum",
    )
    _require(
        not strategy.local.control,
        f"must be false with {spec.strategy}: control variates are sent beside the update, unmasked",
    )
    _require(
        spec.compression.kind == "none",
        "must be false with compression: masks are as long as the model, and can be made no shorter",
    )
    _require(
        spec.criteria.min_participants >= LEAST_DEVICES and spec.criteria.needed >= LEAST_DEVICES,
        f"must be false with fewer than {LEAST_DEVICES} participants: of two, each knows the other's part",
    )
    _require(
        spec.criteria.selected <= MOST_DEVICES,
        f"must be false with more than {MOST_DEVICES} participants in a round",
    )
    if spec.privacy.differential_privacy:
        _check_private(spec)


def encoding_of(spec: CampaignSpec, devices: int) -> Encoding:
    """How the devices of a round that began with so many write their updates."""
    if not spec.privacy.differential_privacy:
        most = spec.criteria.most_samples or MOST_SAMPLES
        return Encoding.weighted(devices, min(most, (2**32 - 1) // devices))
    return Encoding.clipped(devices, spec.privacy.clip_norm, spec.noise_multiplier or 0.0)


def look_seconds(spec: CampaignSpec) -> float:
    """How often a device looks whether it is its turn: some times in each step, within its limits."""
    return min(MOST_LOOK_SECONDS, SHORT * spec.training_seconds / 4)


def clipping_of(spec: CampaignSpec) -> str:
    """Who holds updates to `clip_norm`; under masks only the device can, and it is taken at its word."""
    return "on devices" if spec.secure_aggregation else "on the server"


def _check_private(spec: CampaignSpec) -> None:
    if spec.privacy.adaptive_clipping:
        raise PrivacyRefused(
            "adaptive clipping counts how many updates are longer than the norm, and with secure aggregation "
            "nobody sees how long they are: choose a clip_norm"
        )
    if spec.privacy.mechanism != "gaussian":
        raise PrivacyRefused(
            "with secure aggregation the noise is fresh in each round: choose the mechanism gaussian"
        )
    if (spec.noise_multiplier or spec.privacy.noise or 0.0) > MOST_NOISE:
        raise PrivacyRefused(f"with secure aggregation the noise multiplier is at most {MOST_NOISE:g}")


def _require(holds: bool, expected: str) -> None:
    if not holds:
        raise InvalidField(FIELD, expected)
