"""What every strategy promises; a new one is tested by being there."""

from __future__ import annotations

import dataclasses
import math
import re
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from tg_workbench.errors import InvalidField, TooFewUpdates, UpdateInvalid
from tg_workbench.federation.strategies import Outcome, State, Strategy, Update, Vector, named, names
from tg_workbench.federation.strategies.registry import options, summary

SIZE, DEVICES = 1_000, 9
ROBUST = ("median", "multi-krum", "trimmed-mean")


def updates(seed: int, size: int = SIZE, devices: int = DEVICES) -> list[Update]:
    rng = np.random.default_rng(seed)
    return [
        Update(vector(rng, size), float(rng.integers(1, 100)), control=vector(rng, size))
        for _ in range(devices)
    ]


def vector(rng: np.random.Generator, size: int = SIZE) -> Vector:
    return rng.normal(scale=0.1, size=size).astype(np.float32)


def ran(strategy: Strategy, parameters: Vector, state: State, handed_in: list[Update]) -> Outcome:
    aggregation = strategy.begin(parameters, state)
    for update in handed_in:
        aggregation.add(update)
    return aggregation.finish()


def rounds(name: str, order: int = 1) -> Outcome:
    """Three rounds of a strategy, each with its own updates."""
    outcome = Outcome(vector(np.random.default_rng(7)), {})
    for number in range(3):
        outcome = ran(named(name), outcome.parameters, outcome.state, updates(number)[::order])
    return outcome


def test_the_twelve_are_there() -> None:
    assert set(names()) == {
        *("fedadagrad", "fedadam", "fedavg", "fedavgm", "fedbuff", "fedprox", "fedyogi"),
        *("median", "multi-krum", "norm-bound", "scaffold", "trimmed-mean"),
    }


@pytest.mark.parametrize("name", names())
def test_the_same_updates_in_the_same_order_give_the_same_bits(name: str) -> None:
    one, other = rounds(name), rounds(name)
    assert one.parameters.tobytes() == other.parameters.tobytes()
    assert one.figures == other.figures
    assert one.state.keys() == other.state.keys()
    for key, held in one.state.items():
        assert np.asarray(held).tobytes() == np.asarray(other.state[key]).tobytes()


@pytest.mark.parametrize("name", names())
def test_another_order_changes_no_more_than_rounding(name: str) -> None:
    np.testing.assert_allclose(rounds(name).parameters, rounds(name, -1).parameters, atol=2e-5)


@pytest.mark.parametrize("name", sorted(set(names()) - {"fedadagrad", "fedadam", "fedyogi"}))
def test_equal_updates_give_themselves_back(name: str) -> None:
    start, same = vector(np.random.default_rng(1)), vector(np.random.default_rng(2)) * np.float32(0.1)
    handed_in = [Update(same, 3.0, control=same) for _ in range(DEVICES)]
    np.testing.assert_allclose(ran(named(name), start, {}, handed_in).parameters, start + same, atol=1e-6)


@pytest.mark.parametrize("name", ["fedadagrad", "fedadam", "fedyogi"])
def test_an_adaptive_strategy_moves_as_its_updates_point(name: str) -> None:
    same = vector(np.random.default_rng(2))
    moved = ran(named(name), np.zeros_like(same), {}, [Update(same, 3.0)] * DEVICES).parameters
    assert (np.sign(moved) == np.sign(same)).all()


@pytest.mark.parametrize("name", names())
def test_nothing_that_was_given_is_changed(name: str) -> None:
    start = vector(np.random.default_rng(1))
    state = ran(named(name), start, {}, updates(0)).state
    handed_in = updates(3)
    before = start.copy(), {key: np.copy(held) for key, held in state.items()}, updates(3)
    ran(named(name), start, state, handed_in)
    assert np.array_equal(start, before[0])
    assert all(np.array_equal(held, before[1][key]) for key, held in state.items())
    assert all(
        np.array_equal(one.delta, other.delta) for one, other in zip(handed_in, before[2], strict=True)
    )


@pytest.mark.parametrize("name", names())
def test_what_comes_out_is_float32_and_figures_are_finite(name: str) -> None:
    outcome = rounds(name)
    assert outcome.parameters.dtype == np.float32
    assert outcome.parameters.shape == (SIZE,)
    assert outcome.figures["devices"] == DEVICES
    assert all(type(figure) is float and math.isfinite(figure) for figure in outcome.figures.values())
    for held in outcome.state.values():
        assert isinstance(held, float) or held.dtype == np.float32


@pytest.mark.parametrize("name", names())
def test_fewer_updates_than_it_takes_are_refused(name: str) -> None:
    strategy = named(name)
    handed_in = updates(0)[: strategy.fewest - 1]
    with pytest.raises(TooFewUpdates) as refused:
        ran(strategy, np.zeros(SIZE, np.float32), {}, handed_in)
    assert (refused.value.have, refused.value.need) == (len(handed_in), strategy.fewest)
    assert ran(strategy, np.zeros(SIZE, np.float32), {}, updates(0)[: strategy.fewest]).figures


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize(
    "wrong", [np.zeros(SIZE + 1, np.float32), np.zeros(SIZE), np.zeros((SIZE, 1), np.float32)]
)
def test_a_vector_of_another_length_or_type_is_refused(name: str, wrong: Vector) -> None:
    aggregation = named(name).begin(np.zeros(SIZE, np.float32), {})
    with pytest.raises(UpdateInvalid, match="one flat float32 vector of 1000"):
        aggregation.add(Update(wrong, 1.0, control=wrong))


@pytest.mark.parametrize(
    "name", sorted(set(names()) - {"median", "trimmed-mean", "multi-krum", "norm-bound"})
)
def test_updates_that_overflow_together_are_refused(name: str) -> None:
    huge = np.full(SIZE, 3e38, np.float32)
    with pytest.raises(UpdateInvalid, match="not finite"), np.errstate(all="ignore"):
        ran(named(name), huge, {}, [Update(huge, 100.0, control=huge)] * DEVICES)


@pytest.mark.parametrize("name", names())
def test_one_that_needs_each_update_refuses_a_sum_of_many(name: str) -> None:
    strategy, together = named(name), [dataclasses.replace(update, devices=3) for update in updates(0)]
    if strategy.needs_each_update:
        with pytest.raises(UpdateInvalid, match="each device's own"):
            ran(strategy, np.zeros(SIZE, np.float32), {}, together)
    else:
        assert ran(strategy, np.zeros(SIZE, np.float32), {}, together).figures["devices"] == 3 * DEVICES


@pytest.mark.parametrize("name", [name for name in names() if not named(name).needs_each_update])
def test_a_mean_out_of_secure_aggregation_does_what_its_devices_would_have_done(name: str) -> None:
    start, single = np.zeros(SIZE, np.float32), [dataclasses.replace(u, weight=2.0) for u in updates(0)]
    deltas, controls = ([getattr(u, what) for u in single] for what in ("delta", "control"))
    summed = Update(np.mean(deltas, 0), 2.0 * DEVICES, control=np.mean(controls, 0), devices=DEVICES)
    one, other = ran(named(name), start, {}, single), ran(named(name), start, {}, [summed])
    np.testing.assert_allclose(one.parameters, other.parameters, atol=1e-6)


@pytest.mark.parametrize("name", names())
def test_its_words_are_there_and_own_up(name: str) -> None:
    words = summary(name)
    assert 40 < len(words) < 300
    assert words.endswith(".")
    if named(name).needs_each_update:
        assert "Cannot go together with secure aggregation" in words
    if name in ROBUST:
        assert re.search(r"[Cc]osts accuracy where devices' data differ", words)


@pytest.mark.parametrize("name", names())
def test_an_option_nobody_knows_is_refused_without_repeating_it(name: str) -> None:
    with pytest.raises(InvalidField, match="strategy options") as refused:
        named(name, **{"hunter2": 1})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(("name", "option"), [(name, option) for name in names() for option in options(name)])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, "0.5", [1]], ids=repr)
def test_an_option_of_no_use_is_refused_by_its_name(name: str, option: str, value: object) -> None:
    with pytest.raises(InvalidField, match=option):
        named(name, **{option: value})


def test_a_strategy_nobody_knows_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidField, match="fedadagrad, fedadam, fedavg"):
        named("fedmagic")


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name in names() for key in rounds(name).state if key != "steps"]
)
def test_a_state_of_another_model_is_refused(name: str, key: str) -> None:
    with pytest.raises(InvalidField, match=f"state.{key}"):
        ran(named(name), np.zeros(SIZE, np.float32), {key: np.zeros(3, np.float32)}, updates(0))


@pytest.mark.parametrize(
    "facts", [{"weight": 0.0}, {"weight": math.nan}, {"weight": 1e12}, {"staleness": -1}]
)
def test_an_update_that_counts_for_nothing_or_everything_is_refused(facts: dict[str, float]) -> None:
    with pytest.raises(InvalidField):
        Update(np.zeros(3, np.float32), **{"weight": 1.0, **facts})  # type: ignore[arg-type]


def test_importing_the_room_and_naming_a_strategy_imports_no_arrays() -> None:
    script = (
        "import sys; from tg_workbench.federation import strategies, updates; "
        "[strategies.named(name) for name in strategies.names()]; "
        "updates.Layout.of({'a': [3]}).digest; print(*sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert {"numpy", "torch", "safetensors", "sqlalchemy"}.isdisjoint(told.split())


@pytest.mark.parametrize("name", [name for name in names() if name not in ROBUST])
def test_memory_is_flat_in_the_number_of_devices(name: str) -> None:
    def peak(devices: int) -> int:
        start, update = np.zeros(200_000, np.float32), updates(0, 200_000, 1)[0]
        tracemalloc.start()
        ran(named(name), start, {}, [update] * devices)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(40) < peak(4) + 100_000
