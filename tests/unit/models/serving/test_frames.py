"""Frames carry what they were given, and nothing larger than they may."""

from __future__ import annotations

import asyncio
import struct

import pytest

from tg_workbench.models.serving.frames import MAGIC, MOST_HEADER, MOST_PAYLOAD, BadFrame, Frame, read_frame


def read(content: bytes) -> Frame | None:
    async def fed() -> Frame | None:
        reader = asyncio.StreamReader()
        reader.feed_data(content)
        reader.feed_eof()
        return await read_frame(reader)

    return asyncio.run(fed())


@pytest.mark.parametrize(
    "frame", [Frame({}), Frame({"op": "é"}, b"\0\xff"), Frame({"a": [1, {"b": None}]}, b"x" * 99)]
)
def test_a_frame_comes_out_as_it_went_in(frame: Frame) -> None:
    assert read(frame.encoded()) == frame


def test_the_end_of_a_connection_is_no_frame() -> None:
    assert read(b"") is None


@pytest.mark.parametrize(
    "content",
    [
        b"tgf",
        b"GET / HTTP/1.1\r\n",
        struct.pack("<4sII", b"tgf2", 2, 0) + b"{}",
        struct.pack("<4sII", MAGIC, MOST_HEADER + 1, 0),
        struct.pack("<4sII", MAGIC, 2, MOST_PAYLOAD + 1) + b"{}",
        struct.pack("<4sII", MAGIC, 2, 5) + b"{}abc",
        struct.pack("<4sII", MAGIC, 2, 0) + b"[]",
        struct.pack("<4sII", MAGIC, 2, 0) + b"{]",
        struct.pack("<4sII", MAGIC, 2, 0) + b"\xff\xfe",
    ],
    ids=range(9),
)
def test_what_is_no_frame_is_refused(content: bytes) -> None:
    with pytest.raises(BadFrame):
        read(content)


def test_a_header_that_is_too_large_is_not_sent() -> None:
    with pytest.raises(BadFrame):
        Frame({"a": "x" * MOST_HEADER}).encoded()
