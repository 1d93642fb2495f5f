from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.unit.sdk.resources.scripted_server import (
    ScriptedServer,
    Step,
    answer,
    hang_up,
    hang_up_midway,
    keep_silent,
    later,
    refusal,
)
from tg_workbench.errors import (
    BudgetExhausted,
    CallFailed,
    DatabaseUnavailable,
    DatasetNotFound,
    InvalidBatch,
    QueueFull,
    RateLimited,
    Unauthenticated,
)
from tg_workbench.sdk.address import Address
from tg_workbench.sdk.connection import Body, Call, Connection

GOOD = answer({"fine": True})


@pytest.mark.parametrize(
    "fault",
    [hang_up, hang_up_midway, answer(b"", 502), refusal("DATABASE_UNAVAILABLE", 503), answer(b"busy", 504)],
)
def test_a_call_outlives_a_workbench_that_is_away(
    server: ScriptedServer, connection: Connection, fault: Step
) -> None:
    server.script = [fault, fault, GOOD]
    assert connection.post("/do", Body(b"{}")) == {"fine": True}
    assert len(server.seen) == 3


def test_every_try_of_a_post_carries_the_same_key(server: ScriptedServer, connection: Connection) -> None:
    server.script = [hang_up, hang_up, GOOD]
    connection.post("/do", Body(b'{"a":1}'))
    keys = [seen.headers["idempotency-key"] for seen in server.seen]
    assert len(set(keys)) == 1
    assert [seen.body for seen in server.seen] == [b'{"a":1}'] * 3


def test_two_posts_have_two_keys(server: ScriptedServer, connection: Connection) -> None:
    server.script = [GOOD]
    connection.post("/do")
    connection.post("/do")
    first, second = server.seen
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]


def test_a_call_waits_for_a_socket_that_is_not_there_yet(server: ScriptedServer) -> None:
    path = server.path.with_name("late.sock")
    connection = Connection(Address("http://workbench", str(path)), patience=5.0)
    late = threading.Timer(0.2, lambda: ScriptedServer(path, [GOOD]))
    late.start()
    assert connection.get("/soon") == {"fine": True}


def test_an_answer_that_never_comes_is_asked_for_again(
    server: ScriptedServer, connection: Connection
) -> None:
    server.script = [keep_silent, GOOD]
    assert connection.post("/do", answer_seconds=0.2) == {"fine": True}


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422, 429, 500, 507])
def test_what_is_refused_is_not_tried_again(
    server: ScriptedServer, connection: Connection, status: int
) -> None:
    server.script = [refusal("VALIDATION_ERROR", status)]
    with pytest.raises(Exception, match="no"):
        connection.post("/do")
    assert len(server.seen) == 1


def test_a_program_that_nobody_watches_waits_its_turn(server: ScriptedServer) -> None:
    limited = refusal("RATE_LIMIT_EXCEEDED", 429, "more than 100 requests", retry_after=0.2)
    server.script = [limited, limited, GOOD]
    began = time.monotonic()
    unattended = Connection(Address("http://workbench", str(server.path)), waits_its_turn=True)
    assert unattended.post("/do") == {"fine": True}
    assert time.monotonic() - began > 0.4
    assert len({seen.headers["idempotency-key"] for seen in server.seen}) == 1


def test_a_turn_that_never_comes_is_told(server: ScriptedServer) -> None:
    server.script = [refusal("RATE_LIMIT_EXCEEDED", 429, "more than 100 requests", retry_after=0.01)]
    unattended = Connection(Address("http://workbench", str(server.path)), waits_its_turn=True)
    with pytest.raises(RateLimited, match="more than 100"):
        unattended.get("/x")
    assert len(server.seen) == 6


def test_what_a_lost_try_has_deleted_is_deleted(server: ScriptedServer, connection: Connection) -> None:
    server.script = [hang_up, refusal("DATASET_NOT_FOUND", 404), refusal("DATASET_NOT_FOUND", 404)]
    assert connection.delete("/it") == {}
    with pytest.raises(DatasetNotFound):
        connection.delete("/it")


def test_a_missing_key_is_asked_for_in_the_words_of_the_sdk(
    server: ScriptedServer, connection: Connection
) -> None:
    missing = {"kind": "CredentialMissing"}
    server.script = [refusal("AUTHENTICATION_REQUIRED", 401, "send an API key", **missing)]
    with pytest.raises(Unauthenticated, match=r"Workbench\(api_key="):
        connection.get("/x")


def test_patience_ends_with_words_that_say_what_to_do(server: ScriptedServer, connection: Connection) -> None:
    server.script = [hang_up]
    began = time.monotonic()
    with pytest.raises(CallFailed, match=r"does not answer.*make lab"):
        connection.get("/x")
    assert 0.3 < time.monotonic() - began < 10.0


def test_patience_ends_with_the_last_thing_that_was_said(
    server: ScriptedServer, connection: Connection
) -> None:
    server.script = [refusal("QUEUE_FULL", 503, "1000 operations are waiting", limit=1000)]
    with pytest.raises(QueueFull, match="1000 operations") as refused:
        connection.post("/x")
    assert refused.value.limit == 1000


def test_an_error_keeps_its_class_its_message_and_its_facts(
    server: ScriptedServer, connection: Connection
) -> None:
    server.script = [
        refusal("DP_BUDGET_EXCEEDED", 400, "ε = 2.90 of 3.00", spent_epsilon=2.9, target_epsilon=3.0)
    ]
    with pytest.raises(BudgetExhausted, match=r"2.90 of 3.00") as spent:
        connection.post("/x")
    assert (spent.value.spent_epsilon, spent.value.target_epsilon) == (2.9, 3.0)


def test_an_unknown_code_is_a_call_that_failed(server: ScriptedServer, connection: Connection) -> None:
    server.script = [refusal("SOMETHING_NEW", 418, "short and stout", pot="tea")]
    with pytest.raises(CallFailed, match="short and stout") as failed:
        connection.get("/x")
    error = failed.value
    assert (error.code, error.status, error.request_id) == ("SOMETHING_NEW", 418, "req-1")
    assert error.details == {"pot": "tea"}


def test_a_narrower_kind_is_believed_only_within_its_code(
    server: ScriptedServer, connection: Connection
) -> None:
    server.script = [
        refusal("VALIDATION_ERROR", 422, kind="InvalidBatch"),
        refusal("AUTHENTICATION_REQUIRED", 401, kind="InvalidBatch"),
    ]
    with pytest.raises(InvalidBatch):
        connection.get("/x")
    with pytest.raises(Unauthenticated):
        connection.get("/x")


@pytest.mark.parametrize("body", [b"<html>", b"[1, 2]", b'"text"'])
def test_an_address_that_is_no_workbench_is_named_as_such(
    server: ScriptedServer, connection: Connection, body: bytes
) -> None:
    server.script = [answer(body)]
    with pytest.raises(CallFailed, match="no TG Workbench"):
        connection.get("/x")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_what_json_cannot_say_is_refused_before_it_is_sent(value: object) -> None:
    with pytest.raises(InvalidBatch, match="cannot be sent"):
        Body.of_json({"features": [value]})


def test_what_is_not_finite_is_called_so() -> None:
    with pytest.raises(InvalidBatch, match="it holds NaN or infinity"):
        Body.of_json({"ranges": {"age": [0.0, float("inf")]}})


def test_the_key_is_sent_and_the_waiting_time_asked_for(
    server: ScriptedServer, connection: Connection
) -> None:
    server.script = [GOOD]
    connection.get("/x", {"a": "b c", "left_out": None}, wait=1.5)
    assert server.seen[0].path == "/x?a=b+c&wait=1.500"
    assert server.seen[0].headers["authorization"] == "Bearer tgw-secret"


def test_threads_share_a_connection(server: ScriptedServer, connection: Connection) -> None:
    all_there = threading.Barrier(32, timeout=30)

    def together(peer: socket.socket) -> None:
        all_there.wait()
        GOOD(peer)

    server.script = [together]
    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(lambda n: connection.get(f"/{n}"), range(32)))
    assert answers == [{"fine": True}] * 32


def test_a_look_is_taken_once(server: ScriptedServer, connection: Connection) -> None:
    server.script = [refusal("DATABASE_UNAVAILABLE", 503)]
    with pytest.raises(DatabaseUnavailable):
        connection.look("/health")
    assert len(server.seen) == 1


def test_what_an_id_holds_stays_one_part_of_the_path(server: ScriptedServer, connection: Connection) -> None:
    server.script = [GOOD]
    connection.get("/of/a b?c#d\r\n%2e")
    assert server.seen[0].path == "/of/a%20b%3Fc%23d%0D%0A%252e"


def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again(
    server: ScriptedServer, connection: Connection
) -> None:
    def answer_and_leave(peer: socket.socket) -> None:
        GOOD(peer)
        hang_up(peer)

    server.script = [answer_and_leave]

    def seconds_for_five() -> float:
        before, began = len(server.seen), time.monotonic()
        for _ in range(5):
            assert connection.get("/x") == {"fine": True}
            time.sleep(0.01)
        assert len(server.seen) == before + 5, "no request was sent twice"
        return time.monotonic() - began

    assert any(seconds_for_five() < 0.5 for _ in range(5))  # others may be at work on the machine


def test_a_call_that_is_interrupted_leaves_nothing_for_the_next(
    server: ScriptedServer, connection: Connection
) -> None:
    server.script = [later(0.3, answer({"first": True})), answer({"second": True})]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def get_for_a_moment() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        connection.get("/x")

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            get_for_a_moment()
    finally:
        signal.signal(signal.SIGALRM, before)
    time.sleep(0.4)
    assert connection.get("/x") == {"second": True}


def test_a_forked_process_has_connections_of_its_own(server: ScriptedServer, connection: Connection) -> None:
    server.script = [GOOD]
    connection.get("/parent")
    child = os.fork()
    if child == 0:
        os._exit(0 if connection.get("/child") == {"fine": True} else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert connection.get("/parent") == {"fine": True}
    assert [seen.path for seen in server.seen] == ["/parent", "/child", "/parent"]
    assert len(server.peers) == 2


@pytest.mark.parametrize("key", ["tgw-ключ", "tgw-a\nb", "tgw-\x00"])
def test_a_key_that_no_header_could_carry_is_refused(key: str) -> None:
    with pytest.raises(CallFailed, match="copy it again"):
        Address.find("http://localhost:1", key, environ={})


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_no_success(server: ScriptedServer, connection: Connection, status: int) -> None:
    server.script = [answer(b"", status, location="https://workbench.example/tg")]
    with pytest.raises(CallFailed, match=r"redirects to https://workbench.example/tg.*base_url"):
        connection.delete("/workbench/v1/api_keys/key-1")


def test_an_answer_without_content_is_none_of_ours(server: ScriptedServer, connection: Connection) -> None:
    server.script = [answer(b"", 200)]
    with pytest.raises(CallFailed, match="no TG Workbench"):
        connection.delete("/workbench/v1/api_keys/key-1")


def test_a_closed_connection_says_so_when_awaited(server: ScriptedServer, connection: Connection) -> None:
    connection.close()
    with pytest.raises(CallFailed, match="closed"):
        asyncio.run(connection.off_loop(lambda: None))


def test_who_takes_a_call_and_says_nothing_is_told_from_one_who_is_away(
    server: ScriptedServer, connection: Connection
) -> None:
    server.script = [keep_silent]
    with pytest.raises(
        CallFailed, match=r"takes calls and gives no answer.*suspended, stuck.*make lab"
    ) as told:
        connection.send(Call("GET", "/x", answer_seconds=0.1))
    assert "before you ask for it again" not in str(told.value)


def test_that_it_may_be_done_yet_is_said_of_what_may_have_arrived(
    server: ScriptedServer, connection: Connection
) -> None:
    for fault in (keep_silent, hang_up):
        server.script = [fault]
        with pytest.raises(CallFailed, match="may be done already, or yet be: look what is there before you"):
            connection.post("/do", answer_seconds=0.1)
    nobody = Connection(Address("http://workbench", str(server.path.with_name("nobody.sock"))), patience=0.1)
    with pytest.raises(CallFailed) as away:
        nobody.post("/do")
    assert "may be done" not in str(away.value)
