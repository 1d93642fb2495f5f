"""What torch answers for: networks of rows that ONNX cannot hold, and language models.

A network is built as its trainer built it; weights that do not fit are an error, never a guess.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic_core import from_json, to_json

from tg_workbench.engine.blueprints import Blueprint
from tg_workbench.engine.generation import Completion, Taste, write_on
from tg_workbench.engine.networks import LanguageModel, Network, RowModel, device_of
from tg_workbench.errors import CheckpointMismatch, InvalidRequest, ModelBusy, ModelFailed, RowInvalid
from tg_workbench.models.serving.frames import Frame
from tg_workbench.models.serving.hosts import Tell
from tg_workbench.models.serving.rows import rows_in
from tg_workbench.models.serving.served import Array, Run, Served

MOST_THREADS = 4
MOST_WAITING = 32
"""Texts that may wait for their turn: a language model writes one at a time."""
MOST_TEXTS = 256
LONGEST_TEXT = 100_000


def open_network(architecture: Mapping[str, Any], weights: bytes, cache: Path) -> Network:
    """The network that `architecture` describes, with these weights. Raises ModelFailed, InvalidRequest."""
    torch.set_num_threads(max(1, min(MOST_THREADS, (os.cpu_count() or 2) // 2)))
    try:
        return Blueprint.from_json(architecture).opened(weights, cache)
    except CheckpointMismatch as failure:
        raise ModelFailed("this model's weights are not those of its architecture") from failure


def rows_of(network: RowModel) -> Run:
    """A network of rows as a function of float32 [rows, …]."""

    def run(features: Array) -> Array:
        with torch.inference_mode():
            told = network.answer({"features": torch.from_numpy(np.ascontiguousarray(features))})
        scores: Array = told.cpu().numpy()
        return scores.reshape(len(features), -1)

    return run


class TextHost:
    """A language model: writes on from texts, and tells what it would write next."""

    def __init__(self, served: Served, network: LanguageModel) -> None:
        self.served = served
        self.network = network
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def answer(self, asked: Frame, tell: Tell) -> Frame:
        """The answer, or the last piece of it. Raises InvalidRequest, ModelFailed, ModelBusy."""
        match asked.header.get("op"):
            case "generate":
                return await self._generate(asked, tell)
            case "predict":
                member, rows = rows_in(from_json(asked.payload))
                texts = _texts(rows, member)
                found = await self._in_turn(lambda stop: [self._next_token(text) for text in texts])
                return Frame({}, to_json({"predictions": found}))
        raise InvalidRequest("this model reads and writes texts: ask it to generate, or to predict")

    async def close(self) -> None:
        """Nothing goes on beyond its caller."""

    def warm_up(self) -> None:
        """The first token takes longest, and shows that there is one. Raises ModelFailed."""
        self._next_token("a")

    async def _generate(self, question: Frame, tell: Tell) -> Frame:
        asked: dict[str, Any] = from_json(question.payload)
        stops = tuple(asked["stop"])
        taste = Taste(asked["max_tokens"], asked["temperature"], asked["top_p"], asked["top_k"], stops)
        if not question.header.get("stream"):
            written = await self._in_turn(
                lambda stop: write_on(self.network, asked["text_input"], taste, stop.is_set)
            )
            return Frame({"reason": written.finish_reason}, written.completion.encode())
        heard: asyncio.Queue[str] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def hear(text: str) -> None:
            loop.call_soon_threadsafe(heard.put_nowait, text)

        writing = asyncio.ensure_future(
            self._in_turn(lambda stop: write_on(self.network, asked["text_input"], taste, stop.is_set, hear))
        )
        try:
            told = await _tell_pieces(heard, writing, stops, tell)
            whole: Completion = await writing
        finally:
            writing.cancel()
        return Frame({"reason": whole.finish_reason}, whole.completion[told:].encode())

    async def _in_turn(self, work: Callable[[threading.Event], Any]) -> Any:
        """Do something in a thread when nobody else does; whoever is cancelled has it stopped."""
        if self._waiting >= MOST_WAITING:
            raise ModelBusy
        self._waiting += 1
        try:
            async with self._turn:
                stop = threading.Event()
                doing = asyncio.ensure_future(asyncio.to_thread(work, stop))
                try:
                    return await asyncio.shield(doing)
                except asyncio.CancelledError:
                    stop.set()
                    await asyncio.wait({doing})
                    raise
        finally:
            self._waiting -= 1

    def _next_token(self, text: str) -> dict[str, Any]:
        """The likeliest next token, as a class, and its chance."""
        tokenizer = self.network.tokenizer
        ids = (tokenizer.encode(text) or [tokenizer.start_id])[-self.network.max_length :]
        with torch.inference_mode():
            read = torch.tensor([ids], device=device_of(self.network.module))
            chances = self.network.answer({"input_ids": read})[0, -1].softmax(-1)
        if not bool(chances.isfinite().all()):
            raise ModelFailed("this model answers with numbers that are not finite")
        best = int(chances.argmax())
        return {"class": tokenizer.decode([best]), "confidence": float(chances[best])}


async def _tell_pieces(
    heard: asyncio.Queue[str], writing: asyncio.Future[Completion], stops: tuple[str, ...], tell: Tell
) -> int:
    """Tell what can be told while it is written, and return how much that was.

    Held back is the beginning of a character, and what a stop sequence may take away again.
    """
    told, held = 0, max((len(stop) for stop in stops), default=1) - 1
    while not (writing.done() and heard.empty()):
        getting = asyncio.ensure_future(heard.get())
        both: set[asyncio.Future[Any]] = {getting, writing}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not getting.done():
            getting.cancel()
            continue
        text = getting.result().rstrip("\N{REPLACEMENT CHARACTER}")
        if piece := text[told : len(text) - held]:
            told += len(piece)
            await tell(Frame({"more": True}, piece.encode()))
    return told


def _texts(rows: list[Any], member: str) -> list[str]:
    if len(rows) > MOST_TEXTS:
        raise RowInvalid(member, f"there are {len(rows)} texts; send at most {MOST_TEXTS} at a time")
    for number, row in enumerate(rows):
        if not isinstance(row, str) or not 0 < len(row) <= LONGEST_TEXT:
            where = member if member == "input" else f"{member}.{number}"
            raise RowInvalid(where, f"it must be a text of 1 to {LONGEST_TEXT} characters")
    return rows
