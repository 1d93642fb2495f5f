"""Everybody computes the same graph; it has enough neighbours, and nobody chose them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tg_workbench.federation.updates.secure_aggregation.graph import Graph, degree_for, threshold


def ids(count: int) -> list[str]:
    return [f"dev_{number:04}" for number in range(count)]


@settings(max_examples=50, deadline=None)
@given(count=st.integers(3, 80), half=st.integers(1, 30), seed=st.binary(min_size=32, max_size=32))
def test_neighbours_are_neighbours_of_each_other(count: int, half: int, seed: bytes) -> None:
    graph = Graph.of(ids(count), seed, 2 * half)
    for name in ids(count):
        neighbours = graph.neighbours(name)
        assert len(neighbours) == min(2 * half, count - 1)
        assert name not in neighbours
        assert list(neighbours) == sorted(set(neighbours))
        assert all(name in graph.neighbours(other) for other in neighbours)
        assert graph.holders(name) == tuple(sorted({name, *neighbours}))


def test_the_order_in_which_devices_came_changes_nothing() -> None:
    one, other = Graph.of(ids(200), b"seed", 20), Graph.of(reversed(ids(200)), b"seed", 20)
    assert one == other


def test_another_seed_gives_another_graph() -> None:
    assert Graph.of(ids(200), b"one", 20) != Graph.of(ids(200), b"two", 20)


def test_the_graph_hangs_together() -> None:
    graph = Graph.of(ids(300), b"seed", 4)
    seen, waiting = {ids(1)[0]}, [ids(1)[0]]
    while waiting:
        for other in graph.neighbours(waiting.pop()):
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    assert seen == set(ids(300))


@pytest.mark.parametrize("devices", [3, 4, 10, 128])
def test_few_devices_are_all_neighbours(devices: int) -> None:
    assert degree_for(devices) == devices - 1


def test_the_number_of_neighbours_grows_much_slower_than_that_of_devices() -> None:
    degrees = [degree_for(devices) for devices in (129, 1_000, 10_000, 65_536)]
    assert degrees == sorted(degrees)
    assert degrees[0] < 100
    assert degrees[3] < 200


@pytest.mark.parametrize("holders", range(1, 40))
def test_two_groups_that_are_large_enough_share_more_than_a_third(holders: int) -> None:
    assert 2 * threshold(holders) - holders > holders / 3
    assert threshold(holders) <= holders
