"""Outfit: what a client's worker makes of what was asked, before the first operation.

The spec with all that the dataset tells about it, the plan of its noise, and the trainer both make.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tg_workbench.datasets import Dataset
from tg_workbench.engine.trainer import Trainer
from tg_workbench.settings import Settings
from tg_workbench.storage import Blobs
from tg_workbench.training.courses import Course, class_weights_of, noisy_loss_bound
from tg_workbench.training.job_admission import check_job
from tg_workbench.training.job_specs import JobSpec
from tg_workbench.training.plan import Plan, choose_plan
from tg_workbench.training.rows import architecture_of, classes_of_texts, with_target_scale
from tg_workbench.training.specs import ROW_MODELS, ClientSpec
from tg_workbench.training.tables import TrainingClient
from tg_workbench.training.trainers import trainer_spec


@dataclass(frozen=True, slots=True)
class Outfit:
    """A spec that leaves nothing open, the plan of its noise (None without a guarantee), and the trainer."""

    spec: ClientSpec
    plan: Plan | None
    trainer: Trainer

    @classmethod
    def of(
        cls,
        client: TrainingClient,
        dataset: Dataset | None,
        job: JobSpec | None,
        *,
        blobs: Blobs,
        settings: Settings,
        go_on: Callable[[], None],
    ) -> Outfit:
        """That of a client, which learns from a dataset or from its caller's rows, and may be a job's.

        A plan is chosen once, and kept with the client ever after. `go_on` breaks off, by raising, the search
        for its noise. Raises InvalidRequest, and what making a model raises.
        """
        spec = _whole(ClientSpec.from_json(client.config), dataset, job, blobs)
        if job is None or dataset is None:
            plan = _kept(client, dataset) or choose_plan(spec, dataset, go_on=go_on)
            return cls(spec, plan, Trainer(trainer_spec(spec, plan, dataset, settings)))
        check_job(job, dataset)
        course = Course.of(job, dataset.members)
        members = len(course.learned)
        spec = replace(spec, max_steps=course.total_steps)
        plan = _kept(client, dataset) or choose_plan(spec, dataset, members=members, go_on=go_on)
        if plan is not None and plan.noisy_loss_bound is None:
            plan = replace(plan, noisy_loss_bound=noisy_loss_bound(spec))
        made = trainer_spec(spec, plan, dataset, settings, members=members)
        weights = class_weights_of(job, dataset, blobs)
        return cls(spec, plan, Trainer(replace(made, class_weights=weights, seed=job.seed or 0)))


def _whole(spec: ClientSpec, dataset: Dataset | None, job: JobSpec | None, blobs: Blobs) -> ClientSpec:
    """The same, with the shape of its network where the rows tell it, and the scale of what is predicted."""
    if dataset is None:
        return spec
    if spec.architecture is None and spec.model_ref in ROW_MODELS:
        hidden_sizes = job.hidden_sizes if job is not None else ()
        spec = replace(spec, architecture=replace(architecture_of(dataset, blobs), hidden_sizes=hidden_sizes))
    elif spec.architecture is None and job is not None:
        spec = replace(spec, architecture=classes_of_texts(dataset, blobs))
    return with_target_scale(spec, dataset)


def _kept(client: TrainingClient, dataset: Dataset | None) -> Plan | None:
    """The plan that was chosen before, with the population that plans were first made without."""
    if not client.plan:
        return None
    plan = Plan(**client.plan)
    if dataset is not None and plan.population is None:
        plan = replace(plan, population=dataset.population)
    return plan
