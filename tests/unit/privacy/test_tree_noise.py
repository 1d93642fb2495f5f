"""A tree goes on after a crash as if there had been none, and with other deltas as another tree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tg_workbench.errors import InvalidRequest
from tg_workbench.privacy.clipping import ClippedSum
from tg_workbench.privacy.tree_noise import grow
from tg_workbench.privacy.tree_plans import TreePlan
from tg_workbench.privacy.trees import Tree
from tg_workbench.privacy.user_level import ClippedDeltas

SIZE, DEVICES = 11, 4.0


def nobody(clip_norm: float = 1.0) -> ClippedSum:
    return ClippedDeltas(SIZE, clip_norm).finish()


def tree(steps: int = 8) -> Tree:
    return Tree.begin(TreePlan(steps), noise_multiplier=2.0, clip_norm=1.0)


def test_a_tree_that_was_put_away_after_every_step_gives_the_same_bits() -> None:
    through = resumed = tree()
    for step in range(8):
        context = f"round {step}".encode()
        one, through = grow(through, nobody(), context, DEVICES)
        _, _ = grow(resumed, nobody(), context, DEVICES)  # a crash: what came of it is lost
        other, resumed = grow(Tree.from_bytes(resumed.as_bytes()), nobody(), context, DEVICES)
        assert np.array_equal(one, other)
    assert through == resumed


def test_a_step_that_is_done_again_with_other_deltas_has_other_noise() -> None:
    grown = tree()
    one, _ = grow(grown, nobody(), b"these", DEVICES)
    other, _ = grow(grown, nobody(), b"others", DEVICES)
    assert not np.isclose(one, other).any()


def test_a_prefix_is_made_of_as_many_nodes_as_its_number_has_ones() -> None:
    grown = tree(13)
    for step in range(1, 14):
        _, grown = grow(grown, nobody(), str(step).encode(), DEVICES)
        assert len(grown.nodes) == step.bit_count()


def test_what_would_change_the_promise_is_refused() -> None:
    grown = tree(1)
    with pytest.raises(InvalidRequest, match="stays what it was"):
        grow(grown, nobody(clip_norm=2.0), b"", DEVICES)
    _, grown = grow(grown, nobody(), b"", DEVICES)
    with pytest.raises(InvalidRequest, match="begin another"):
        grow(grown, nobody(), b"", DEVICES)
    with pytest.raises(TypeError, match="ClippedSum"):
        grow(tree(), np.zeros(SIZE), b"", DEVICES)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="above 0"):
        replace(grown, noise_multiplier=0.0)


@pytest.mark.parametrize(
    "kept", [b"", b"{}", b"[]", b'{"format": 2}'], ids=["empty", "none", "list", "later"]
)
def test_what_is_no_tree_is_refused(kept: bytes) -> None:
    with pytest.raises(InvalidRequest, match="no tree"):
        Tree.from_bytes(kept)


def test_a_seed_is_not_shown() -> None:
    grown = tree()
    assert grown.seed.hex() not in repr(grown)
    assert repr(grown.seed) not in repr(grown)
