from __future__ import annotations

import threading
import time

import pytest
from tg_widgets.watch import Watch

from tests.widgets.conftest import wait_for


def test_it_looks_again_when_the_look_says_so_and_at_once_when_asked() -> None:
    seen: list[float] = []

    def look() -> float:
        seen.append(time.monotonic())
        return 0.01 if len(seen) < 3 else 60.0

    watch = Watch(look, "watch")
    assert not seen
    watch.start()
    wait_for(lambda: len(seen) == 3)
    watch.look_now()
    wait_for(lambda: len(seen) == 4)
    watch.close()


def test_it_rests_until_it_is_started_again_and_looks_no_more_when_closed() -> None:
    looks = [0]

    def look() -> float:
        looks[0] += 1
        return 60.0

    def is_watched() -> bool:
        return any(thread.name == "watch that rests" for thread in threading.enumerate())

    watch = Watch(look, "watch that rests")
    watch.start()
    watch.start()
    wait_for(lambda: looks == [1])
    watch.rest()
    wait_for(lambda: not is_watched())
    watch.start()
    wait_for(lambda: looks == [2])
    watch.close()
    wait_for(lambda: not is_watched())
    watch.start()
    assert not is_watched()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_after_what_nobody_expected_it_begins_anew() -> None:
    looks = [0]

    def look() -> float:
        looks[0] += 1
        raise ZeroDivisionError

    watch = Watch(look, "watch")
    watch.start()
    wait_for(lambda: looks == [1] and watch._thread is None)
    watch.start()
    wait_for(lambda: looks == [2])
    watch.close()
