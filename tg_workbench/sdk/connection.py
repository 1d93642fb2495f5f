"""One pool of connections to a workbench, shared by every thread of a process.

Each call is tried again while the workbench does not answer (it is being restarted, say). A POST keeps its
Idempotency-Key over its tries, so it is done once however often it is sent. What the workbench refuses
(4xx) is never tried again.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlencode

from tg_workbench.errors import CallFailed, InvalidBatch, NotFound, RateLimited, WorkbenchError
from tg_workbench.sdk.address import Address
from tg_workbench.sdk.patience import Patience, wait_for_turn
from tg_workbench.sdk.wire import Answer, Content, Wire, WireBroken
from tg_workbench.sdk.wire_errors import envelope_of, error_from

T = TypeVar("T")
Query = Mapping[str, Any]
NO_QUERY: Query = {}
JSON = "application/json"
AWAY = (502, 503, 504)
MOST_TURNS = 5
"""How often one call waits its turn."""
UNAUTHORIZED = 401
ANSWER_SECONDS = 30.0
"""How long a call that waits for nothing may take before it is tried again."""

DOWNLOAD_SECONDS = 300.0
IS_OPEN = ". What was asked may be done already, or yet be: look what is there before you ask for it again"
MOST_AWAITED = 64
"""How many answers one process can `await` at once; more wait for their turn."""


@dataclass(frozen=True, slots=True)
class Body:
    """The bytes of a request, and what they are. They may hold a password, so `repr` leaves them out."""

    content: bytes = field(repr=False)
    content_type: str = JSON

    @classmethod
    def of_json(cls, value: Any) -> Body:
        """`value` as JSON. Raises InvalidBatch when it holds NaN, infinity or what JSON cannot say."""
        try:
            return cls(json.dumps(value, allow_nan=False, separators=(",", ":")).encode())
        except ValueError as failure:
            raise InvalidBatch("this cannot be sent: it holds NaN or infinity, or itself") from failure
        except TypeError as failure:
            raise InvalidBatch(
                f"this cannot be sent ({failure}): use finite numbers, strings, lists or arrays"
            ) from failure


@dataclass(frozen=True, slots=True)
class StreamedBody:
    """A body that is too large to be held. Its pieces can be gone through as often as it must be sent."""

    content: Iterable[bytes] = field(repr=False)
    content_type: str
    size: int


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as often as it must be sent."""

    method: str
    path: str
    query: Query = field(default_factory=dict)
    body: Body | StreamedBody | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    answer_seconds: float = ANSWER_SECONDS
    is_anonymous: bool = False
    """Sent without a credential: to sign in, say."""


class Credential(Protocol):
    """What calls are signed with, where that is more than an API key."""

    def token(self) -> str:
        """What to send now. Raises Unauthenticated when there is nothing any more, and WireBroken."""

    def renew(self, refused: str) -> None:
        """Have another token than the one that was refused. Raises Unauthenticated, WireBroken."""


class Connection:
    """Sends calls to one address, with a credential or else its key. Safe to share between threads.

    With `waits_its_turn`, a call that is one too many in a while is sent again when the workbench says so:
    for programs that nobody watches.
    """

    def __init__(self, address: Address, *, patience: float = 60.0, waits_its_turn: bool = False) -> None:
        self.address = address
        self.patience = patience
        self.waits_its_turn = waits_its_turn
        self.credential: Credential | None = None
        self.on_call: Callable[[WorkbenchError | None], object] = _unheard
        """Is told of each call that nobody answered and that is tried again, and with None of an answer."""
        self._wire = Wire(address)
        self._headers = {"Accept": JSON, "Accept-Encoding": "identity"}
        self._threads = ThreadPoolExecutor(MOST_AWAITED, "tg-await")

    def get(self, path: str, query: Query = NO_QUERY, *, wait: float = 0.0) -> dict[str, Any]:
        """Read. `wait` asks the workbench to hold the answer back for up to so many seconds."""
        if wait > 0:
            query = {**query, "wait": f"{wait:.3f}"}
        return self.send(Call("GET", path, query, answer_seconds=ANSWER_SECONDS + wait))

    def post(
        self,
        path: str,
        body: Body | None = None,
        query: Query = NO_QUERY,
        *,
        wait: float = 0.0,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> dict[str, Any]:
        """Do something once, under a key of its own. `wait` as for `get`."""
        key = {"Idempotency-Key": str(uuid.uuid4())}
        if wait > 0:
            query = {**query, "wait": f"{wait:.3f}"}
        return self.send(Call("POST", path, query, body, key, answer_seconds))

    def download(self, path: str) -> bytes:
        """Read a file. Raises the error the answer tells of, or CallFailed."""
        answer = self._answered(Call("GET", path, answer_seconds=DOWNLOAD_SECONDS))
        return b"" if answer is None else answer.content

    def stream(self, path: str, query: Query, take: Callable[[Answer], object]) -> None:
        """Read a file as it comes: `take` is given a good answer, and another one if the first breaks off.

        Raises the error the answer tells of, or CallFailed.
        """
        self._answered(Call("GET", path, query, answer_seconds=DOWNLOAD_SECONDS), take)

    def put(self, path: str, body: Body | None = None) -> dict[str, Any]:
        """Say how something shall be."""
        return self.send(Call("PUT", path, body=body))

    def delete(self, path: str) -> dict[str, Any]:
        """End something."""
        return self.send(Call("DELETE", path))

    def look(self, path: str) -> dict[str, Any]:
        """Read once, whoever is signed in, without trying again. Raises CallFailed when nobody answers."""
        try:
            answer = self.answer(Call("GET", path, is_anonymous=self.credential is not None))
        except WireBroken as failure:
            raise self.unreachable(failure) from failure
        if answer.status_code >= 500 and b'"error"' not in answer.content:
            return object_in(answer)
        if answer.status_code >= 300:
            raise error_of(answer)
        return object_in(answer)

    def send(self, call: Call) -> dict[str, Any]:
        """Send a call until it is answered. Raises the error the answer tells of, or CallFailed."""
        answer = self._answered(call)
        return {} if answer is None else object_in(answer)

    def send_once(self, call: Call) -> dict[str, Any]:
        """Send a call and not again. Raises WireBroken, or the error the answer tells of.

        WireBroken also when the workbench is away, and somebody else says so.
        """
        answer = self.answer(call)
        if answer.status_code in AWAY:
            raise WireBroken(str(error_of(answer)))
        if answer.status_code >= 300:
            raise error_of(answer)
        return object_in(answer)

    def _answered(self, call: Call, take: Callable[[Answer], object] = Answer.read) -> Answer | None:
        """A good answer, taken in. None: what was to be deleted is gone, by a try whose answer was lost."""
        patience, again, sent, turns = Patience(self.patience), False, False, 0
        while True:
            try:
                answer = self.answer(call, take)
            except WireBroken as failure:
                sent = sent or failure.sent
                self.on_call(self.unreachable(failure))
                patience.wait_after(self.unreachable(failure, is_open=sent and call.method == "POST"))
                again = True
                continue
            if answer.status_code not in AWAY:
                self.on_call(None)
            if answer.status_code < 300:
                return answer
            if answer.status_code < 400:
                raise CallFailed(
                    f"the workbench at {self.address} redirects to {answer.location or 'another address'}: "
                    "give that one as base_url (nothing was done)",
                    status=answer.status_code,
                )
            error = error_of(answer)
            if again and call.method == "DELETE" and isinstance(error, NotFound):
                return None
            if self.waits_its_turn and isinstance(error, RateLimited) and turns < MOST_TURNS:
                turns += 1
                wait_for_turn(error)
            elif answer.status_code in AWAY:
                self.on_call(error)
                patience.wait_after(error)
            else:
                raise error

    def answer(self, call: Call, take: Callable[[Answer], object] = Answer.read) -> Answer:
        """Send a call once and take its answer in, a good one by `take`. Raises WireBroken."""
        answer = self.open(call)
        try:
            (take if answer.status_code < 300 else Answer.read)(answer)
        finally:
            answer.close()
        return answer

    def open(self, call: Call) -> Answer:
        """Send a call once; its answer's body is still to be read. Raises WireBroken.

        A token that has expired is renewed, and the call sent once more: nothing was done the first time.
        """
        credential = None if call.is_anonymous else self.credential
        if credential is None:
            return self._sent(call, None if call.is_anonymous else self.address.api_key)
        token = credential.token()
        answer = self._sent(call, token)
        if answer.status_code != UNAUTHORIZED:
            return answer
        answer.close()
        credential.renew(token)
        return self._sent(call, credential.token())

    def _sent(self, call: Call, bearer: str | None) -> Answer:
        headers = {**self._headers, **call.headers}
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        content: Content | None = None
        if call.body is not None:
            headers["Content-Type"], content = call.body.content_type, call.body.content
            if isinstance(call.body, StreamedBody):
                headers["Content-Length"] = str(call.body.size)
        query = {name: value for name, value in call.query.items() if value is not None}
        path = quote(call.path, safe="/:")
        target = f"{path}?{urlencode(query)}" if query else path
        return self._wire.request(call.method, target, headers, content, call.answer_seconds)

    async def off_loop(self, function: Callable[[], T]) -> T:
        """Run a waiting call in a thread, so that the event loop (a kernel's) goes on."""
        try:
            waiting = asyncio.get_running_loop().run_in_executor(self._threads, function)
        except RuntimeError as failure:
            raise CallFailed("this Workbench was closed: make another one to go on") from failure
        return await waiting

    def unreachable(self, failure: Exception, *, is_open: bool = False) -> CallFailed:
        """What to tell when the workbench does not answer. `is_open`: what was asked may have been done."""
        if isinstance(failure, WireBroken) and failure.silent:
            told = (
                f"the workbench at {self.address} takes calls and gives no answer ({failure}): it is "
                "suspended, stuck or has too much to do. If that lasts, end it and start it again with "
                "`make lab` or `tg-workbench serve`. What it had accepted is kept"
            )
        else:
            told = (
                f"the workbench at {self.address} does not answer ({failure}); is it "
                "running? `make lab` or `tg-workbench serve` starts it. What it had accepted is kept"
            )
        return CallFailed(told + (IS_OPEN if is_open else ""))

    def close(self) -> None:
        """Close every connection."""
        self._threads.shutdown(wait=False)
        self._wire.close()


def _unheard(failure: WorkbenchError | None) -> None:
    """Where nobody wants to know how calls go."""


def error_of(answer: Answer) -> WorkbenchError:
    """The error that a read answer tells of."""
    body: Any = None
    with suppress(ValueError):
        body = json.loads(answer.content)
    return error_from(envelope_of(body, answer.status_code), status=answer.status_code)


def object_in(answer: Answer) -> dict[str, Any]:
    """A good answer's JSON object; empty where there is no content."""
    if answer.status_code == 204:
        return {}
    try:
        body = json.loads(answer.content)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise CallFailed("this address answers, but it is no TG Workbench", status=answer.status_code)
    return body
