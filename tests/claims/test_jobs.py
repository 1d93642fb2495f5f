"""Is what a job says of its privacy true? What it is charged, who is held out, and what may steer it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlmodel import select

from tests.claims.one_job import OneJob, two_classes
from tg_workbench.engine.measures import Measures
from tg_workbench.errors import PrivacyRefused
from tg_workbench.training import DPSpec, EarlyStopping, JobSpec
from tg_workbench.training.courses import Course
from tg_workbench.training.fitting import Fit
from tg_workbench.training.tables import Artifact

SPEC = JobSpec(dataset_id="ds", model_type="mlp", validation_split=0.3, batch_size=20)


def test_every_step_is_charged_once_and_at_the_rate_over_those_it_learns_from(tmp_path: Path) -> None:
    """A rate over the whole dataset would be too low: whoever is learned from is drawn more often."""
    job = OneJob(tmp_path, two_classes(200), epochs=2, batch_size=20, validation_split=0.3)
    learned = len(job.fit.course.learned)
    drawn: list[int] = []
    sampler = job.fit._sampler
    assert sampler is not None
    assert (sampler.size, sampler.sample_rate) == (learned, 20 / learned)
    job.done(lambda fit: drawn.append(fit.step))
    charges = job.ledger()
    assert [charge.step for charge in charges] == list(range(1, job.fit.course.total_steps + 1))
    assert {charge.sample_rate for charge in charges} == {20 / learned}
    assert learned < job.dataset.members
    spec = job.fit.operator.trainer.spec
    assert spec.expected_batch_size == pytest.approx(20)


def test_who_is_held_out_is_never_learned_from(tmp_path: Path) -> None:
    """The rows that the model sees in a step carry their own number."""
    features, targets = two_classes(120)
    features[:, 0] = np.arange(120)
    job = OneJob(tmp_path, (features, targets), epochs=4, batch_size=60, validation_split=0.3)
    seen: set[int] = set()
    learn = job.fit.operator.learn

    def watched(batch: dict[str, Any], **how: Any) -> Any:
        seen.update(batch["features"][:, 0].astype(int).tolist())
        return learn(batch, **how)

    job.fit.operator.learn = watched  # type: ignore[method-assign]
    job.done()
    assert seen == set(job.fit.course.learned.tolist())
    assert seen.isdisjoint(job.fit.course.held_out.tolist())


def test_the_split_depends_on_numbers_alone(tmp_path: Path) -> None:
    """Other rows, or one row less at the end, leave everybody where they were."""
    course, fewer = Course.of(SPEC, 1000), Course.of(SPEC, 999)
    assert 230 < len(course.held_out) < 370
    assert set(fewer.held_out) == set(course.held_out) - {999}
    first = OneJob(tmp_path / "one", two_classes(150, seed=1)).fit.course
    other = OneJob(tmp_path / "other", two_classes(150, seed=2)).fit.course
    assert np.array_equal(first.held_out, other.held_out)


def test_of_very_few_members_somebody_is_always_learned_from() -> None:
    for members in range(1, 30):
        course = Course.of(JobSpec("ds", "mlp", validation_split=0.95), members)
        assert len(course.learned) + len(course.held_out) == members
        assert len(course.learned) > 0


@pytest.mark.parametrize("monitor", ["val_loss", "loss", "val_accuracy", "accuracy"])
def test_nothing_raw_of_a_protected_dataset_steers_the_training(tmp_path: Path, monitor: str) -> None:
    """However the raw measures and losses look, the job takes the same steps and keeps the last weights."""
    rule = EarlyStopping(patience=1, monitor=monitor, min_delta=0.0)
    asked: dict[str, Any] = {"epochs": 5, "batch_size": 100, "early_stopping": rule}
    job = OneJob(tmp_path, two_classes(100), **asked)
    fit = job.fit
    noisy = iter([5.0, 4.0, 3.0, 2.0, 1.0])  # what is covered by ε goes on becoming better
    _make_worse(fit)
    close = fit._close_epoch

    def closed() -> None:
        fit.sums["noisy_loss"] = [next(noisy)]
        close()

    fit._close_epoch = closed  # type: ignore[method-assign]
    row = job.done()
    assert (row.reason, row.progress["epoch"]) == (None, 5)
    with job.database.read() as session:
        kept = session.exec(select(Artifact).where(Artifact.client_id == row.client_id)).all()
    assert all("best_epoch" not in artifact.details for artifact in kept)
    assert fit.state["best"] is None


def test_the_noisy_loss_may_end_a_job_on_a_protected_dataset(tmp_path: Path) -> None:
    rule = EarlyStopping(patience=1, monitor="val_loss")
    job = OneJob(tmp_path, two_classes(100), epochs=5, batch_size=100, early_stopping=rule)
    fit = job.fit
    close = fit._close_epoch

    def closed() -> None:
        fit.sums["noisy_loss"] = [1.0]
        close()

    fit._close_epoch = closed  # type: ignore[method-assign]
    row = job.done()
    assert (row.reason, row.progress["epoch"]) == ("early_stopping", 2)
    assert any("noisy training loss" in warning for warning in row.warnings)


def test_the_noisy_loss_is_charged_with_the_gradient(tmp_path: Path) -> None:
    """Both leave as one release: the gradient's own noise is larger than what is charged for."""
    job = OneJob(tmp_path, two_classes(100), dp=DPSpec(noise_multiplier=2.0))
    privacy = job.fit.operator.trainer.spec.privacy
    assert privacy is not None
    assert privacy.noisy_loss_bound is not None
    assert privacy.gradient_noise_multiplier > 2.0
    assert job.fit.operator.plan is not None
    assert job.fit.operator.plan.kind.noise_multiplier == 2.0


@pytest.mark.parametrize("asked", [{"seed": 1}, {"class_weights": "balanced"}, {"dp": DPSpec(enabled=False)}])
def test_what_would_break_the_promise_is_refused(tmp_path: Path, asked: dict[str, Any]) -> None:
    with pytest.raises(PrivacyRefused):
        OneJob(tmp_path, two_classes(100), **asked)


def test_who_is_drawn_cannot_be_foreseen(tmp_path: Path) -> None:
    """Two jobs that ask for the same draw others: nothing of a protected training is seeded."""
    first = OneJob(tmp_path / "one", two_classes(200), batch_size=40).fit
    other = OneJob(tmp_path / "other", two_classes(200), batch_size=40).fit
    drawn = [[fit._drawn().tolist() for _ in range(3)] for fit in (first, other)]
    assert drawn[0] != drawn[1]
    assert first.operator.trainer.spec.seed == other.operator.trainer.spec.seed == 0


def _make_worse(fit: Fit) -> None:
    """Every measure that is taken is worse than the one before it, and so is every raw loss."""
    looks = iter(range(1, 10_000))

    def measured(*_: object) -> Measures:
        number = next(looks)
        return Measures(float(number), 1, {"accuracy": 1.0 / number})

    fit.operator.trainer.measure = measured  # type: ignore[method-assign,assignment]
