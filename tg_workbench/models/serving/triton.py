"""Triton, or whatever speaks the Open Inference Protocol v2 at an address that the operator has named.

Models are looked for under their ids, so no name that a caller gives ever becomes part of an address.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tg_workbench.errors import InvalidRequest, ModelNotReady
from tg_workbench.models.serving.frames import MOST_PAYLOAD, Frame
from tg_workbench.settings import Settings

if TYPE_CHECKING:  # where no Triton is configured, its 5 MB are not needed
    import httpx

HEADER = "Inference-Header-Content-Length"
CONNECT_SECONDS, ANSWER_SECONDS = 2.0, 60.0
KNOWN_SECONDS = 5.0
"""For how long it is believed that a model is there, or is not."""
MOST_CONNECTIONS, MOST_KNOWN = 32, 1000


@dataclass
class Triton:
    """One server, asked over connections that are kept."""

    url: str
    token: str | None = field(default=None, repr=False)
    _http: httpx.AsyncClient | None = field(default=None, repr=False)
    _known: dict[str, tuple[bool, float]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, settings: Settings) -> Triton | None:
        """The one that is configured, if one is."""
        return None if settings.triton_url is None else cls(settings.triton_url, settings.triton_token)

    async def serves(self, model_id: str) -> bool:
        """Whether it is there and has this model ready."""
        import httpx

        known, until = self._known.get(model_id, (False, 0.0))
        if time.monotonic() < until:
            return known
        try:
            found = (await self._client.get(f"{self.url}/v2/models/{model_id}/ready")).status_code == 200
        except httpx.HTTPError:
            found = False
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[model_id] = (found, time.monotonic() + KNOWN_SECONDS)
        return found

    async def infer(self, model_id: str, question: Frame) -> Frame:
        """Its answer to a request of the protocol. Raises InvalidRequest, ModelNotReady.

        What it says of a request that it refuses is not repeated: that may hold the request's own values.
        """
        import httpx

        headers = {"Content-Type": "application/octet-stream", HEADER: str(question.header["json_bytes"])}
        url = f"{self.url}/v2/models/{model_id}/infer"
        try:
            async with self._client.stream("POST", url, content=question.payload, headers=headers) as answer:
                content = await _bounded(answer)
        except httpx.HTTPError:
            raise ModelNotReady("Triton does not answer; send the request again") from None
        if 400 <= answer.status_code < 500:
            raise InvalidRequest("Triton refuses this request: its inputs or outputs are not the model's")
        if answer.status_code != 200:
            raise ModelNotReady("Triton could not answer; send the request again")
        head = answer.headers.get(HEADER, "")
        return Frame({"json_bytes": int(head) if head.isdigit() else len(content)}, content)

    async def close(self) -> None:
        """Let go of its connections."""
        if self._http is not None:
            await self._http.aclose()

    @property
    def _client(self) -> httpx.AsyncClient:
        import httpx

        if self._http is None:
            self._http = httpx.AsyncClient(
                headers={} if self.token is None else {"Authorization": f"Bearer {self.token}"},
                timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
                limits=httpx.Limits(max_connections=MOST_CONNECTIONS),
                follow_redirects=False,
                trust_env=False,
            )
        return self._http


async def _bounded(answer: httpx.Response) -> bytes:
    """The whole answer. Raises ModelNotReady when it is larger than answers may be."""
    content = bytearray()
    async for piece in answer.aiter_bytes():
        content += piece
        if len(content) > MOST_PAYLOAD:
            raise ModelNotReady("Triton's answer is larger than answers may be")
    return bytes(content)
