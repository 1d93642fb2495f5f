from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tg_workbench import datasets
from tg_workbench.engine.identities import KEY_BYTES, keys_of, read_ids
from tg_workbench.errors import InvalidBatch
from tg_workbench.sdk.ids import id_number, numbered


@pytest.mark.parametrize("ids", [[7, "a", 7, "b"], ["7", "a", "7", "b"]])
def test_ids_are_told_apart_whatever_they_are_written_as(ids: list[Any]) -> None:
    read = read_ids({"unit_ids": ids}, "unit", 4)
    first, second, third, fourth = keys_of(read)
    assert first == third == keys_of(np.array([7]))[0]
    assert len({first, second, fourth}) == 3
    assert {len(key) for key in keys_of(read)} == {KEY_BYTES}


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (None, "counted by record_ids"),
        ([1, 2], "one id for each of the 3"),
        ([1, 2, 3.5], "or texts of 1 to"),
        ([1, 2, True], "or texts of 1 to"),
        ([1, 2, ""], "or texts of 1 to"),
        ([1, 2, "x" * 257], "or texts of 1 to"),
        ([1, 2, None], "or texts of 1 to"),
        (np.zeros((3, 1), dtype=np.int64), "one id for each of the 3"),
        ([1, 2, 2**63], "whole numbers of 64 bits"),
        (np.array([1, 2, 2**63], dtype=np.uint64), "whole numbers of 64 bits"),
        (np.zeros(3), "or texts of 1 to"),
    ],
)
def test_ids_that_tell_nothing_are_refused(ids: Any, words: str) -> None:
    with pytest.raises(InvalidBatch, match=words):
        read_ids({"record_ids": ids}, "record", 3)


@pytest.mark.parametrize(
    "value",
    [0, 7, -7, 2**62, "7", "-7", "007", "a", "²", "9" * 30, str(-(2**63)), "é", "-", "\ud800", np.int64(5)],
)
def test_an_id_is_the_same_person_at_every_door(value: Any) -> None:
    sent = id_number(value)
    assert -(2**63) <= sent < 2**63
    value = int(value) if isinstance(value, np.integer) else value  # as JSON brings it
    as_text = keys_of(read_ids({"unit_ids": [value]}, "unit", 1))
    assert as_text == keys_of(np.array([sent], dtype=np.int64))


def test_keys_are_as_long_as_the_ledger_reads_them() -> None:
    assert KEY_BYTES == datasets.KEY_BYTES


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 1.0, True, None, "", b"a"])
def test_what_is_no_id_is_refused_before_it_travels(value: Any) -> None:
    with pytest.raises(InvalidBatch, match="64 bits or texts"):
        numbered([1, value])
