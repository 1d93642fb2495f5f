"""When a job has seen enough is a function of its history."""

from __future__ import annotations

from tg_workbench.training import EarlyStopping
from tg_workbench.training.histories import begun, best_epoch, epochs_of, is_enough, with_epoch


def test_a_measure_that_was_not_there_before_is_none_before() -> None:
    history = with_epoch(begun(), {"loss": 2.0})
    history = with_epoch(history, {"loss": 1.0, "val_f1": 0.5})
    assert epochs_of(history) == 2
    assert (history["val_f1"], history["accuracy"]) == ([None, 0.5], [None, None])
    assert {len(values) for values in history.values()} == {2}


def test_the_best_is_the_first_of_equals_and_losses_are_best_when_low() -> None:
    assert best_epoch([3.0, 1.0, 1.0], EarlyStopping(monitor="val_loss")) == 1
    assert best_epoch([0.1, 0.9, 0.5], EarlyStopping(monitor="val_accuracy")) == 1
    assert best_epoch([None, 0.9], EarlyStopping(monitor="val_accuracy")) == 1
    assert best_epoch([], EarlyStopping()) is None


def test_little_gains_do_not_count() -> None:
    rule = EarlyStopping(patience=2, monitor="val_loss", min_delta=0.1)
    assert best_epoch([1.0, 0.95, 0.89], rule) == 2
    assert not is_enough([1.0, 0.95], rule)
    assert is_enough([1.0, 0.95, 0.91], rule)
    assert not is_enough([1.0, 0.95, 0.8], rule)


def test_a_history_that_is_taken_up_is_a_copy() -> None:
    kept = with_epoch(begun(), {"loss": 1.0})
    taken = begun(kept)
    taken["loss"].append(2.0)
    assert kept["loss"] == [1.0]
