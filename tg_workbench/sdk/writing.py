"""Writing: what a language model writes after a prompt, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tg_workbench.errors import CallFailed, ModelFailed
from tg_workbench.sdk.connection import AWAY, Body, Call, Connection, error_of
from tg_workbench.sdk.events import messages_in
from tg_workbench.sdk.patience import Patience
from tg_workbench.sdk.wire import Answer, WireBroken

WRITING_SECONDS = 90.0
"""The longest silence between two pieces of a text."""


def written(connection: Connection, path: str, asked: Mapping[str, Any]) -> Iterator[str]:
    """The pieces of a text, as they come. Who stops reading stops the writing."""
    call = Call("POST", path, body=Body.of_json(asked), answer_seconds=WRITING_SECONDS)
    answer = _begun(connection, call)
    try:
        for _, told in messages_in(answer.pieces()):
            if told.get("error"):
                raise ModelFailed(str(told["error"]))
            yield str(told.get("text_output", ""))
    except WireBroken as failure:
        raise CallFailed(f"the text broke off ({failure}): ask again") from failure
    finally:
        answer.close()


def _begun(connection: Connection, call: Call) -> Answer:
    """The beginning of an answer; a worker that is not there yet is waited for."""
    patience = Patience(connection.patience)
    while True:
        try:
            answer = connection.open(call)
        except WireBroken as failure:
            patience.wait_after(connection.unreachable(failure))
            continue
        if answer.status_code == 200:
            return answer
        try:
            answer.read()
        finally:
            answer.close()
        if answer.status_code not in AWAY:
            raise error_of(answer)
        patience.wait_after(error_of(answer))
