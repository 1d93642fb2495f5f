from __future__ import annotations

import threading
import time

from tg_widgets.pace import Pace

from tests.widgets.conftest import wait_for


def test_the_last_request_is_always_served() -> None:
    served: list[int] = []
    asked = 0
    pace = Pace(lambda: served.append(asked), seconds=0.05)
    began = time.monotonic()
    for asked in range(1, 101):  # noqa: B007  # read by the pace
        pace.ask()
    wait_for(lambda: served[-1] == 100)
    assert len(served) <= 3 + (time.monotonic() - began) / 0.05


def test_requests_from_many_threads_never_act_at_once() -> None:
    inside, most = 0, 0

    def act() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.001)
        inside -= 1

    pace = Pace(act, seconds=0.001)

    def ask() -> None:
        for _ in range(50):
            pace.ask()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pace.now()
    assert most == 1


def test_what_was_put_off_can_be_forgotten() -> None:
    served: list[int] = []
    pace = Pace(lambda: served.append(1), seconds=0.5)
    pace.ask()
    pace.ask()
    pace.stop()
    time.sleep(0.7)
    assert served == [1]
