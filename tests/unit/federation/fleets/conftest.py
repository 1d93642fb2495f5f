"""An organisation with a fleet, and a round of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tg_workbench.federation.fleets.releases import Release
from tg_workbench.security import Vault
from tg_workbench.storage import Blobs

RELEASE = Release(
    round_id="round_1",
    campaign_id="camp_1",
    tenant_id="org-1",
    actor="me",
    number=1,
    base="0" * 64,
    contributions=(("dev_a", "1" * 64), ("dev_b", "2" * 64)),
    noise_multiplier=2.0,
    clip_norm=1.0,
    quorum=2,
)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(Blobs(tmp_path / "blobs"), tmp_path)


@pytest.fixture
def release() -> Release:
    return RELEASE
