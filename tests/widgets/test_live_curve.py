from __future__ import annotations

import threading
import time
from array import array

import pytest
from tg_widgets import LiveCurve, Series

from tests.widgets.conftest import Wire, wait_for


def test_a_page_that_comes_late_gets_the_whole_history(wire: Wire) -> None:
    curve = LiveCurve()
    curve.append("loss", range(100), range(100))
    assert wire.sent(curve) == []
    wire.say(curve, {"type": "ready"})
    assert wire.drawn(curve) == curve.points("loss") == [(n, n) for n in range(100)]


def test_what_comes_later_is_appended_as_bytes_of_its_own_size(wire: Wire) -> None:
    curve = LiveCurve()
    wire.say(curve, {"type": "ready"})
    time.sleep(0.15)
    curve.append("loss", [1, 2, 3], [0.3, 0.2, 0.1])
    content, buffers = wire.sent(curve)[-1]
    assert content == {"type": "append", "series": ["loss"]}
    assert [len(buffer) for buffer in buffers] == [24, 24]
    assert array("d", buffers[1]).tolist() == [0.3, 0.2, 0.1]


def test_many_points_travel_in_few_messages_and_the_last_one_arrives(wire: Wire) -> None:
    curve = LiveCurve()
    wire.say(curve, {"type": "ready"})
    began = time.monotonic()
    for step in range(2_000):
        curve.append("loss", step, 1.0 / (step + 1))
    wait_for(lambda: wire.drawn(curve) == curve.points("loss"))
    assert wire.drawn(curve)[-1][0] == 1_999
    assert len(wire.sent(curve)) <= 3 + (time.monotonic() - began) / 0.1


def test_threads_that_append_at_once_lose_nothing(wire: Wire) -> None:
    curve = LiveCurve(["a", "b", "c", "d"])
    wire.say(curve, {"type": "ready"})

    def learn(name: str) -> None:
        for step in range(500):
            curve.append(name, step, step)

    threads = [threading.Thread(target=learn, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in "abcd":
        wait_for(lambda name=name: [x for x, _ in wire.drawn(curve, name)] == list(range(500)))


def test_a_second_page_does_not_double_what_the_first_one_shows(wire: Wire) -> None:
    curve = LiveCurve()
    curve.append("loss", [1, 2], [1, 2])
    wire.say(curve, {"type": "ready"})
    wire.say(curve, {"type": "ready"})
    assert wire.drawn(curve) == [(1, 1), (2, 2)]


def test_a_run_that_goes_back_is_drawn_anew(wire: Wire) -> None:
    curve = LiveCurve()
    wire.say(curve, {"type": "ready"})
    curve.append("loss", range(10), [1.0] * 10)
    curve.append("loss", [5, 6], [2.0, 2.0])
    wait_for(lambda: wire.drawn(curve) == curve.points("loss"))
    assert wire.drawn(curve)[-1] == (6, 2.0)


def test_a_page_never_holds_much_more_than_the_kernel(wire: Wire) -> None:
    curve = LiveCurve(capacity=64)
    wire.say(curve, {"type": "ready"})
    for start in range(0, 20_000, 50):
        curve.append("loss", range(start, start + 50), [0.5] * 50)
        curve._pace.now()
    assert len(wire.drawn(curve)) <= len(curve.points("loss")) + 64 + 50
    assert wire.drawn(curve)[-1][0] == 19_999


def test_clearing_empties_the_page_too(wire: Wire) -> None:
    curve = LiveCurve()
    wire.say(curve, {"type": "ready"})
    curve.append("loss", 1, 1)
    curve.clear()
    time.sleep(0.15)
    wait_for(lambda: wire.drawn(curve) == [])


def test_an_unknown_series_is_named(wire: Wire) -> None:
    curve = LiveCurve([Series("loss"), Series("epsilon", axis="right")])
    with pytest.raises(ValueError, match="no series 'accuracy'; it has loss, epsilon"):
        curve.append("accuracy", 1, 1)


def test_columns_of_different_length_are_refused(wire: Wire) -> None:
    with pytest.raises(ValueError, match="zip"):
        LiveCurve().append("loss", [1, 2], [1])
