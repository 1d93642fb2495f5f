"""Workers and dispatchers die; what was accepted is done and what was spent stays spent."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tests.workers.conftest import Workshop, opened
from tg_workbench.training import Architecture, ClientSpec, DPSpec, OptimizerSpec

Rows = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
SMALL = Architecture(input_shape=(4,), output_size=2, hidden_sizes=(8,))


def own_rows(rows: Rows, start: int = 0, count: int = 16) -> dict[str, Any]:
    features, targets = rows
    part = slice(start, start + count)
    return {"batch": {"features": features[part].tolist(), "targets": targets[part].tolist()}}


def test_killed_worker_is_replaced_and_the_run_ends_with_every_charge_in_the_ledger(
    workshop: Workshop, two_moons: Rows
) -> None:
    dataset = workshop.dataset(*two_moons)
    client = workshop.create(ClientSpec("mlp", dataset_id=dataset.id, batch_size=20, max_steps=4000))
    run = workshop.submit(client, "train", {"steps": 400})
    workshop.until(lambda: len(workshop.ledger(client)) > 50)
    workshop.kill_worker(client)
    result = workshop.ended(run).result
    assert result is not None
    assert result["steps_done"] == 400
    (interrupted,) = workshop.events(client, "interrupted")
    assert interrupted["reason"] == "killed by SIGKILL"
    assert interrupted["lost_steps"] == interrupted["step"] - interrupted["resumed_from"]
    # Steps that were taken twice were charged twice: the ledger holds the lost ones too.
    assert len(workshop.ledger(client)) >= 400 + interrupted["lost_steps"]
    assert workshop.client(client).privacy["steps"] == len(workshop.ledger(client))  # type: ignore[index]
    assert "killed by SIGKILL" in (workshop.client(client).reason or "")


def test_gradients_that_waited_for_a_step_are_formed_again(workshop: Workshop, two_moons: Rows) -> None:
    client = workshop.create(ClientSpec("mlp", architecture=SMALL, dp=DPSpec(noise_multiplier=1.0)))
    workshop.do(client, "forward_backward", own_rows(two_moons))
    workshop.do(client, "forward_backward", own_rows(two_moons, 16))
    lost = workshop.kill_worker(client)
    assert workshop.do(client, "optim_step")["step"] == 1
    assert workshop.worker(client) != lost
    assert len(workshop.ledger(client)) == 1


def test_operation_that_kills_three_workers_fails_and_the_client_goes_on(
    workshop: Workshop, two_moons: Rows
) -> None:
    client = workshop.create(ClientSpec("tiny-llama"))
    body = {
        "prompts": ["on and on"] * 256,  # a text may end by itself at any token; all of them will not
        "max_tokens": 4096,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "stop_sequences": [],
    }
    endless = workshop.submit(client, "sample", body)
    pids: set[int | None] = {None}

    def being_tried(attempt: int) -> bool:
        operation = workshop.operation(endless)
        new = workshop.worker(client) not in pids
        return operation.status == "running" and operation.attempt == attempt and new

    for attempt in range(3):
        workshop.until(partial(being_tried, attempt))
        pids.add(workshop.kill_worker(client))
    ended = workshop.ended(endless)
    assert ended.status == "failed"
    assert ended.error is not None
    assert ended.error["type"] == "WorkerLost"
    assert workshop.do(client, "sample", {**body, "prompts": ["go on"], "max_tokens": 2})["samples"]


def test_workers_outlive_a_killed_dispatcher_and_are_kept_by_the_next(
    tmp_path: Path, two_moons: Rows
) -> None:
    with opened(tmp_path) as shop:
        dataset = shop.dataset(*two_moons)
        client = shop.create(ClientSpec("mlp", dataset_id=dataset.id, batch_size=20, max_steps=4000))
        worker = shop.worker(client)
        run = shop.submit(client, "train", {"steps": 300})
        shop.kill_dispatcher()
        shop.open()
        result = shop.ended(run).result
        assert result is not None
        assert result["steps_done"] == 300
        assert shop.worker(client) == worker
        assert shop.events(client, "interrupted") == []
        assert len(shop.ledger(client)) == 300


def test_orderly_stop_saves_and_a_restart_goes_on_without_loss(tmp_path: Path, two_moons: Rows) -> None:
    with opened(tmp_path) as shop:
        dataset = shop.dataset(*two_moons)
        client = shop.create(ClientSpec("mlp", dataset_id=dataset.id, batch_size=20, max_steps=4000))
        run = shop.submit(client, "train", {"steps": 4000})  # it cannot be over before it is told to stop
        shop.until(lambda: len(shop.ledger(client)) > 20)
        shop.close()
        saved = shop.client(client).step
        assert shop.operation(run).status == "pending"
        assert len(shop.ledger(client)) == saved
        shop.open()
        shop.until(lambda: len(shop.ledger(client)) > saved + 20)
        shop.steer("stop", client)
        ended = shop.ended(run).result or {}
        assert ended["steps_done"] == len(shop.ledger(client)) == shop.client(client).step
        assert shop.events(client, "interrupted") == []


def test_idle_worker_leaves_and_comes_back_with_the_same_model(tmp_path: Path, two_moons: Rows) -> None:
    with opened(tmp_path, TG_WORKER_IDLE_SECONDS="1") as shop:
        client = shop.create(
            ClientSpec("mlp", architecture=SMALL, optimizer=OptimizerSpec(learning_rate=0.1))
        )
        shop.do(client, "forward_backward", own_rows(two_moons))
        shop.do(client, "optim_step")
        before = shop.do(client, "evaluate", own_rows(two_moons))
        shop.until(lambda: shop.worker(client) is None)
        assert shop.do(client, "evaluate", own_rows(two_moons)) == before
        assert shop.client(client).step == 1


def test_a_client_that_waits_for_a_worker_gets_the_one_that_rested_longest(
    tmp_path: Path, two_moons: Rows
) -> None:
    with opened(tmp_path, TG_MAX_WORKERS="1") as shop:
        first = shop.create(ClientSpec("mlp", architecture=SMALL))
        second = shop.create(ClientSpec("mlp", architecture=SMALL))
        assert shop.do(second, "evaluate", own_rows(two_moons))["num_examples"] == 16
        assert shop.do(first, "evaluate", own_rows(two_moons))["num_examples"] == 16


def test_a_paused_client_gives_its_place_to_one_that_waits(tmp_path: Path, two_moons: Rows) -> None:
    with opened(tmp_path, TG_MAX_WORKERS="1") as shop:
        dataset = shop.dataset(*two_moons)
        held = shop.create(ClientSpec("mlp", dataset_id=dataset.id, batch_size=20, max_steps=3000))
        run = shop.submit(held, "train", {"steps": 300})
        shop.until(lambda: shop.client(held).step > 20)
        shop.steer("pause", held)
        other = shop.create(ClientSpec("mlp", architecture=SMALL))
        assert shop.do(other, "evaluate", own_rows(two_moons))["num_examples"] == 16
        assert shop.operation(run).status == "pending"
        shop.steer("resume", held)
        result = shop.ended(run).result
        assert result is not None
        assert (result["steps_done"], shop.client(held).step) == (300, 300)
        assert len(shop.ledger(held)) == 300, "nothing was charged twice and nothing was lost"


def test_what_is_asked_of_a_paused_client_waits_even_if_its_worker_has_not_heard(
    tmp_path: Path, two_moons: Rows
) -> None:
    with opened(tmp_path) as shop:
        held = shop.create(ClientSpec("mlp", architecture=SMALL))
        for _ in range(20):
            shop.steer("pause", held)
            waiting = shop.submit(held, "evaluate", own_rows(two_moons))
            time.sleep(0.05)
            assert shop.operation(waiting).status == "pending"
            shop.steer("resume", held)
            assert shop.ended(waiting).status == "completed"


def test_a_paused_client_whose_worker_left_can_be_ended(tmp_path: Path, two_moons: Rows) -> None:
    with opened(tmp_path, TG_MAX_WORKERS="1", TG_WORKER_IDLE_SECONDS="1") as shop:
        held = shop.create(ClientSpec("mlp", architecture=SMALL))
        shop.steer("pause", held)
        waiting = shop.submit(held, "evaluate", own_rows(two_moons))
        shop.until(lambda: shop.worker(held) is None)
        assert shop.operation(waiting).status == "pending"
        shop.steer("terminate", held)
        assert shop.ended(waiting).status == "cancelled"


def test_worker_that_makes_features_of_images_leaves_when_it_is_asked_to(workshop: Workshop) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, size=(40_000, 1, 28, 28), dtype=np.uint8)
    dataset = workshop.registered(pixels, np.arange(40_000) % 10, privacy="public")
    client = workshop.create(ClientSpec("scattering", dataset_id=dataset.id, batch_size=20), ready=False)
    workshop.until(lambda: workshop.worker(client) is not None)
    time.sleep(2.0)  # by then it has read the images
    assert workshop.client(client).status == "initializing"
    pid = workshop.worker(client) or 0
    workshop.steer("terminate", client)
    workshop.until(lambda: not psutil.pid_exists(pid), seconds=10.0)
    assert workshop.client(client).status == "terminated"
    workshop.forget(dataset.id)
