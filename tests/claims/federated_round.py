"""One federated round in a process of its own, which dies where it is told to.

`python -m tests.claims.federated_round FOLDER WHERE`: it writes the model it made to `FOLDER/model.npy`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np

from tg_workbench.federation.fleets.budgets import FleetBudget
from tg_workbench.federation.fleets.noisy_means import mean_of_round
from tg_workbench.federation.fleets.releases import Release
from tg_workbench.security import Vault
from tg_workbench.storage import Blobs, Database

SIZE, DEVICES = 5000, 6
RELEASE = Release(
    round_id="round_1",
    campaign_id="camp_1",
    tenant_id="org-1",
    actor="me",
    number=1,
    base="0" * 64,
    contributions=tuple((f"dev_{number}", str(number) * 64) for number in range(DEVICES)),
    noise_multiplier=2.0,
    clip_norm=1.0,
    quorum=DEVICES,
)


def main(folder: Path, where: str) -> None:
    """The order that a worker keeps."""
    database, vault = Database(f"sqlite:///{folder}/here.db"), Vault(Blobs(folder / "blobs"), folder)
    database.migrate()
    with database.write(durable=True) as session:
        charged = FleetBudget(session, vault).charge(RELEASE)
        die_if(where == "before the charge is stored")
    die_if(where == "after the charge")
    deltas = (
        (device, np.random.default_rng(number).normal(size=SIZE).astype(np.float32))
        for number, device in enumerate(charged.devices)
    )
    mean = mean_of_round(charged, deltas, SIZE)
    np.save(folder / f"drawn {where}.npy", mean)
    die_if(where == "after the noise is drawn")
    with database.write(durable=True) as session:
        FleetBudget(session, vault).released(RELEASE.round_id)
        np.save(folder / "model.npy", mean)
        die_if(where == "before the model is stored")


def die_if(so: bool) -> None:
    """As by `kill -9`."""
    if so:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
