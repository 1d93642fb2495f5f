"""What a round left counts once its update is in a model: SCAFFOLD's control variates stay one another's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tg_workbench.device.folder import DeviceFolder
from tg_workbench.device.memories import CONTROL_KIND, RESIDUAL_KIND, Memories, of_round
from tg_workbench.device.sealed_updates import SealedUpdate, SealedUpdates
from tg_workbench.federation.strategies import State, Update, named
from tg_workbench.federation.strategies.local import new_control
from tg_workbench.federation.strategies.strategy import remembered

CAMPAIGN, OTHER = "camp_1", "camp_2"
STEPS, RATE = 10, 0.1
LOST = 1
"""The round whose second update never gets into a model."""


def vector(value: float) -> NDArray[np.float32]:
    return np.array([value], np.float32)


class Quadratic:
    """A device whose loss is slope/2·(x − lowest)², with a folder of its own."""

    def __init__(self, path: Path, slope: float, lowest: float) -> None:
        self.folder, self.slope, self.lowest = DeviceFolder(path), slope, lowest
        self.counted: str | None = None

    @property
    def control(self) -> NDArray[np.float32]:
        return self.folder.remembered(CONTROL_KIND, CAMPAIGN, 1)

    def settle(self, *, is_told: bool) -> None:
        if is_told:
            Memories(self.folder).settle(CAMPAIGN, self.counted)
        else:
            Memories(self.folder).settle_by_receipts(CAMPAIGN)

    def learn(self, number: int, start: NDArray[np.float32], server: NDArray[np.float32]) -> Update:
        """SCAFFOLD's steps; the receipt comes in any case."""
        x, own = start.copy(), self.control
        for _ in range(STEPS):
            x -= RATE * (self.slope * (x - self.lowest) + server - own)
        renewed = new_control(own, server, x - start, STEPS, RATE)
        arrives(self.folder, f"round_{number}", {CONTROL_KIND: renewed})
        return Update(x - start, 1.0, control=renewed - own)


def kept(folder: DeviceFolder, round_id: str, left: dict[str, NDArray[np.float32]]) -> SealedUpdate:
    """An update whose receipt has not come."""
    update = SealedUpdate(round_id, CAMPAIGN, 1, 40, {}, sha256="", size=0, kinds=tuple(left))
    SealedUpdates(folder).keep(update, b"", left)
    return update


def arrives(folder: DeviceFolder, round_id: str, left: dict[str, NDArray[np.float32]]) -> None:
    """An update whose receipt has come."""
    SealedUpdates(folder).arrived(kept(folder, round_id, left))


def learned_together(folder: Path, *, is_told: bool) -> tuple[float, float, float]:
    """Where two devices end that lose one update; the server's control variate, and the mean of theirs."""
    devices = [Quadratic(folder / "flat", 1.0, 0.0), Quadratic(folder / "steep", 3.0, 10.0)]
    strategy, x = named("scaffold", population=2), vector(0.0)
    state: State = {}
    for number in range(1, 101):
        aggregation = strategy.begin(x, state)
        for device in devices:
            device.settle(is_told=is_told)
            update = device.learn(number, x, remembered(state, "control", 1))
            if number != LOST or device is devices[0]:
                aggregation.add(update)
                device.counted = f"round_{number}"
        outcome = aggregation.finish()
        x, state = outcome.parameters, outcome.state
    for device in devices:
        device.settle(is_told=is_told)
    mean = float(np.mean([device.control for device in devices]))
    return float(x[0]), float(remembered(state, "control", 1)[0]), mean


def test_a_lost_update_keeps_scaffold_from_nothing(tmp_path: Path) -> None:
    x, server, mean = learned_together(tmp_path, is_told=True)
    assert x == pytest.approx(7.5, abs=1e-3)
    assert server == pytest.approx(mean, abs=1e-4)


def test_receipts_do_not_say_what_counts(tmp_path: Path) -> None:
    x, server, mean = learned_together(tmp_path, is_told=False)
    assert abs(x - 7.5) > 1
    assert abs(server - mean) > 1


@pytest.fixture
def folder(tmp_path: Path) -> DeviceFolder:
    """One in which a round's vectors count, as all were kept before rounds were told apart."""
    made = DeviceFolder(tmp_path / "device")
    for kind in (CONTROL_KIND, RESIDUAL_KIND):
        made.remember(kind, CAMPAIGN, vector(1.0))
        made.remember(kind, OTHER, vector(9.0))
    return made


def left(folder: DeviceFolder, round_id: str, value: float) -> None:
    arrives(folder, round_id, {CONTROL_KIND: vector(value), RESIDUAL_KIND: vector(value)})


def counting(folder: DeviceFolder) -> list[float]:
    """What a campaign's next round begins with."""
    return [float(folder.remembered(kind, CAMPAIGN, 1)[0]) for kind in (CONTROL_KIND, RESIDUAL_KIND)]


def lying_there(folder: DeviceFolder) -> set[str]:
    return {path.name for path in folder.path.glob("*.safetensors") if CAMPAIGN in path.name}


BOTH = {f"{kind}-{CAMPAIGN}.safetensors" for kind in (CONTROL_KIND, RESIDUAL_KIND)}


@pytest.mark.parametrize("older", ["round_0", "round_of_which_nothing_is_here"])
def test_rounds_that_came_to_nothing_are_forgotten_and_what_counted_does_so_still(
    folder: DeviceFolder, older: str
) -> None:
    left(folder, "round_1", 2.0)
    left(folder, "round_2", 3.0)
    for _ in range(2):
        Memories(folder).settle(CAMPAIGN, older)
        assert counting(folder) == [1.0, 1.0]
        assert lying_there(folder) == BOTH
    assert folder.remembered(CONTROL_KIND, OTHER, 1) == 9.0


def test_the_named_round_counts_and_all_others_are_forgotten(folder: DeviceFolder) -> None:
    for number in (1, 2, 3):
        left(folder, f"round_{number}", 1.0 + number)
    for _ in range(2):
        Memories(folder).settle(CAMPAIGN, "round_2")
        assert counting(folder) == [3.0, 3.0]
        assert lying_there(folder) == BOTH


def test_who_was_killed_as_it_settled_goes_on(folder: DeviceFolder) -> None:
    left(folder, "round_1", 2.0)
    path = folder.path / f"{CONTROL_KIND}-{of_round(CAMPAIGN, 'round_1')}.safetensors"
    path.replace(folder.path / f"{CONTROL_KIND}-{CAMPAIGN}.safetensors")  # and dies
    Memories(folder).settle(CAMPAIGN, "round_1")
    assert counting(folder) == [2.0, 2.0]


def test_a_device_of_whose_updates_none_is_in_a_model_begins_anew(folder: DeviceFolder) -> None:
    left(folder, "round_1", 2.0)
    Memories(folder).settle(CAMPAIGN, None)
    assert counting(folder) == [0.0, 0.0]
    assert lying_there(folder) == set()


def test_what_was_kept_and_has_no_receipt_is_touched_by_nobody(folder: DeviceFolder) -> None:
    left(folder, "round_1", 2.0)
    kept(folder, "round_2", {CONTROL_KIND: vector(3.0)})
    for settle in (Memories(folder).settle_by_receipts, lambda name: Memories(folder).settle(name, None)):
        settle(CAMPAIGN)
        assert (folder.path / f"pending-{CONTROL_KIND}-round_2.safetensors").exists()


def test_a_campaign_that_is_over_is_forgotten_with_all_its_rounds(folder: DeviceFolder) -> None:
    left(folder, "round_1", 2.0)
    assert set(Memories(folder).campaigns()) == {CAMPAIGN, OTHER}
    Memories(folder).forget([CAMPAIGN])
    assert Memories(folder).campaigns() == [OTHER]
    assert lying_there(folder) == set()
