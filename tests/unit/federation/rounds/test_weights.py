"""What a device claims of itself counts within bounds."""

from __future__ import annotations

import pytest

from tg_workbench.errors import InvalidRequest
from tg_workbench.federation.rounds.specs import Criteria
from tg_workbench.federation.rounds.weights import weights_of


def test_claims_that_are_alike_count_as_they_are() -> None:
    assert weights_of({"a": 40, "b": 60, "c": 100}, Criteria()) == {"a": 40.0, "b": 60.0, "c": 100.0}


def test_nobody_counts_for_more_than_ten_times_the_device_in_the_middle() -> None:
    assert weights_of({"a": 40, "b": 60, "c": 10**9}, Criteria()) == {"a": 40.0, "b": 60.0, "c": 600.0}
    assert weights_of({"a": 40, "b": 10**9}, Criteria()) == {"a": 40.0, "b": 400.0}
    assert weights_of({"a": 10**9}, Criteria()) == {"a": 1e9}
    assert weights_of({}, Criteria()) == {}


def test_whoever_says_how_much_is_obeyed() -> None:
    assert weights_of({"a": 1, "b": 10**9}, Criteria(most_samples=10**9)) == {"a": 1.0, "b": 1e9}
    assert weights_of({"a": 1, "b": 10**9}, Criteria(most_samples=5)) == {"a": 1.0, "b": 5.0}


@pytest.mark.parametrize("most", [0, -1, 10**9 + 1])
def test_a_bound_that_cannot_be_is_refused(most: int) -> None:
    with pytest.raises(InvalidRequest, match="most_samples"):
        Criteria(most_samples=most)
