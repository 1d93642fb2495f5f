from __future__ import annotations

import torch
from torch import nn

from tg_workbench.privacy.clipping import Clipper
from tg_workbench.privacy.rooms import Rooms

LIKE = torch.zeros(0)


def test_same_memory_is_given_again_only_once_it_is_cleared() -> None:
    rooms = Rooms()
    first, second = rooms.take(2, 3, like=LIKE), rooms.take(2, 3, like=LIKE)
    assert first.data_ptr() != second.data_ptr()
    rooms.clear()
    assert rooms.take(6, like=LIKE).data_ptr() == first.data_ptr()


def test_a_room_grows_and_a_smaller_batch_takes_a_part_of_it() -> None:
    rooms = Rooms()
    rooms.take(2, 3, like=LIKE)
    rooms.clear()
    large = rooms.take(4, 3, like=LIKE)
    rooms.clear()
    assert rooms.take(3, 3, like=LIKE).shape == (3, 3)
    rooms.clear()
    assert rooms.take(4, 3, like=LIKE).data_ptr() == large.data_ptr()
    rooms.clear()
    assert rooms.take(4, 3, like=LIKE.double()).dtype == torch.float64


def test_batches_of_any_size_in_turn_are_clipped_as_by_themselves() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(7, 9), nn.Tanh(), nn.Linear(9, 3))
    kept = Clipper(model)
    for count, rows in ((8, 5), (3, 5), (0, 5), (12, 6), (8, 2)):
        x = torch.randn(count, rows, 7)

        def losses(x: torch.Tensor = x) -> torch.Tensor:
            return model(x).square().sum((1, 2))

        found, fresh = kept.clip(losses, 0.5), Clipper(model).clip(losses, 0.5)
        assert torch.equal(found.norms, fresh.norms)
        for name, tensor in fresh.tensors.items():
            assert torch.equal(found.tensors[name], tensor)
