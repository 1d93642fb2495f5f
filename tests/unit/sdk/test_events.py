from __future__ import annotations

import threading
import time

import pytest

from tests.unit.sdk.resources.scripted_server import (
    ScriptedServer,
    answer,
    event,
    hang_up,
    refusal,
    stream,
)
from tg_workbench.errors import CallFailed, TrainingClientNotFound, Unauthenticated
from tg_workbench.sdk.connection import Connection
from tg_workbench.sdk.events import FOREVER, Event, EventStream, Subscription

LAST = event(9, status="terminated")
END = b"event: end\ndata: {}\n\n"


def ids(stream: EventStream) -> list[int]:
    return [told.id for told in stream]


def test_a_stream_goes_on_after_the_last_event_it_saw(server: ScriptedServer, connection: Connection) -> None:
    server.script = [stream(event(1), event(2)), hang_up, answer(b"", 503), stream(event(3), LAST, END)]
    assert ids(EventStream(connection, "tc-1")) == [1, 2, 3, 9]
    assert [seen.headers["last-event-id"] for seen in server.seen[:4]] == ["0", "2", "2", "2"]


def test_an_event_that_comes_again_is_told_once(server: ScriptedServer, connection: Connection) -> None:
    server.script = [stream(event(1), event(2)), stream(event(1), event(2), event(3), LAST, END)]
    assert ids(EventStream(connection, "tc-1")) == [1, 2, 3, 9]


def test_an_event_that_was_cut_off_comes_whole(server: ScriptedServer, connection: Connection) -> None:
    whole = event(2, note="ünï")
    server.script = [stream(event(1), whole[:-9]), stream(whole[:7], whole[7:40], whole[40:], LAST, END)]
    told = list(EventStream(connection, "tc-1"))
    assert [one.id for one in told] == [1, 2, 9]
    assert told[1].data == {"note": "ünï"}


def test_heartbeats_are_not_events(server: ScriptedServer, connection: Connection) -> None:
    server.script = [stream(b": still here\n\n", b"\n", event(1), b": still here\n\n", LAST, END)]
    assert ids(EventStream(connection, "tc-1")) == [1, 9]


def test_only_the_workbench_says_that_a_stream_is_over(
    server: ScriptedServer, connection: Connection
) -> None:
    server.script = [stream(LAST), stream(event(10)), stream(END)]
    assert ids(EventStream(connection, "tc-1")) == [9, 10]
    assert [seen.headers["last-event-id"] for seen in server.seen] == ["0", "9", "10"]


def test_a_client_that_is_gone_ends_the_stream_with_an_error(
    server: ScriptedServer, connection: Connection
) -> None:
    server.script = [refusal("TRAINING_CLIENT_NOT_FOUND", 404)]
    with pytest.raises(TrainingClientNotFound):
        ids(EventStream(connection, "tc-1"))


def test_a_workbench_that_stays_away_ends_the_stream(server: ScriptedServer, connection: Connection) -> None:
    server.script = [hang_up]
    with pytest.raises(CallFailed, match="does not answer"):
        ids(EventStream(connection, "tc-1"))


def test_progress_events_know_their_privacy() -> None:
    told = Event(1, "progress", data={"privacy": {"guarantee": "differential_privacy", "spent_epsilon": 1.5}})
    assert told.privacy is not None
    assert told.privacy.spent_epsilon == 1.5
    assert Event(1, "status", data={}).privacy is None


def test_a_subscription_outlives_restarts(server: ScriptedServer, connection: Connection) -> None:
    server.script = [hang_up, stream(event(1)), hang_up, stream(event(1), event(2)), stream(LAST, END)]
    told: list[int] = []
    with Subscription(EventStream(connection, "tc-1", patience=FOREVER), lambda e: told.append(e.id)) as feed:
        feed._thread.join(5.0)
    assert told == [1, 2, 9]
    assert feed.error is None


def test_closing_ends_a_subscription_that_waits(server: ScriptedServer, connection: Connection) -> None:
    server.script = [stream(event(1), hold=10.0)]
    heard = threading.Event()
    feed = Subscription(EventStream(connection, "tc-1"), lambda _: heard.set())
    assert heard.wait(5.0)
    began = time.monotonic()
    feed.close()
    assert not feed.alive
    assert time.monotonic() - began < 5.0, "the server holds the line for ten seconds"
    assert feed.last_event_id == 1


def test_a_subscription_may_close_itself(server: ScriptedServer, connection: Connection) -> None:
    server.script = [stream(event(1), event(2), hold=10.0)]
    told: list[int] = []
    begun = threading.Event()

    def tell_and_close(event: Event) -> None:
        told.append(event.id)
        assert begun.wait(5.0)
        feed.close()

    feed = Subscription(EventStream(connection, "tc-1"), tell_and_close)
    begun.set()
    feed._thread.join(5.0)
    assert told == [1]


def test_a_refused_subscription_keeps_the_reason(server: ScriptedServer, connection: Connection) -> None:
    server.script = [refusal("AUTHENTICATION_REQUIRED", 401)]
    feed = Subscription(EventStream(connection, "tc-1", patience=FOREVER), print)
    feed._thread.join(5.0)
    assert isinstance(feed.error, Unauthenticated)
