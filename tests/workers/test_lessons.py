"""What a reviewer once broke: each of these was a wrong ε, a lost step or a lost answer."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import numpy as np
import pytest
from sqlmodel import select

from tests.workers.conftest import Workshop, opened
from tests.workers.test_recovery import SMALL, Rows, own_rows
from tg_workbench.datasets import Datasets
from tg_workbench.errors import IdempotencyConflict, InvalidRequest, PrivacyRefused
from tg_workbench.identity import LOCAL_PRINCIPAL
from tg_workbench.storage import Blobs
from tg_workbench.training import Artifact, ClientSpec, DPSpec
from tg_workbench.training.rows import DatasetRows

NOISY = DPSpec(noise_multiplier=1.5)


def test_a_run_does_not_take_a_waiting_draw_along(workshop: Workshop, two_moons: Rows) -> None:
    dataset = workshop.dataset(*two_moons)
    client = workshop.create(ClientSpec("mlp", dataset_id=dataset.id, batch_size=40, dp=NOISY))
    workshop.do(client, "forward_backward", {"dataset_id": dataset.id})
    assert "call optim_step before train" in workshop.refused(client, "train", {"steps": 2})["message"]
    assert workshop.ledger(client) == []
    workshop.do(client, "optim_step")
    assert workshop.do(client, "train", {"steps": 2})["steps_done"] == 2
    assert len(workshop.ledger(client)) == 3


def test_what_one_row_holds_is_the_same_whoever_is_drawn_with_it() -> None:
    mask = np.array([[0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]])
    ids = np.arange(1, 17).reshape(4, 4) * mask
    rows = DatasetRows({"input_ids": ids, "attention_mask": mask}, 4)
    for drawn in ([0], [1], [2], [3], [0, 3], [0, 1, 2, 3]):
        batch = rows.take(drawn)
        for row, kept in zip(drawn, batch["input_ids"], strict=True):
            assert kept[kept > 0].tolist() == ids[row][ids[row] > 0].tolist()
    assert rows.take([3])["input_ids"].shape == (1, 1)


def test_an_orderly_leave_keeps_the_steps_before_a_waiting_gradient(tmp_path: Path, two_moons: Rows) -> None:
    shop = Workshop(tmp_path)
    shop.open()
    client = shop.create(ClientSpec("mlp", architecture=SMALL, dp=NOISY))
    for _ in range(3):
        shop.do(client, "forward_backward", own_rows(two_moons))
        shop.do(client, "optim_step")
    shop.do(client, "forward_backward", own_rows(two_moons))
    shop.close()
    with opened(tmp_path) as again:
        assert again.do(client, "optim_step")["step"] == 4
        assert len(again.ledger(client)) == 4
        assert again.events(client, "interrupted") == []


def test_a_loaded_checkpoint_stays_loaded_when_the_worker_is_lost(
    workshop: Workshop, two_moons: Rows
) -> None:
    teacher, pupil = (workshop.create(ClientSpec("mlp", architecture=SMALL)) for _ in range(2))
    for client in (teacher, pupil):
        workshop.do(client, "forward_backward", own_rows(two_moons))
        workshop.do(client, "optim_step")
    saved = workshop.do(teacher, "save_state")
    workshop.do(pupil, "load_state", {"artifact_id": saved["artifact_id"]})
    expected = workshop.do(teacher, "evaluate", own_rows(two_moons))
    assert workshop.do(pupil, "evaluate", own_rows(two_moons)) == expected
    before = workshop.kill_worker(pupil)
    workshop.until(lambda: workshop.worker(pupil) not in (before, None))
    assert workshop.do(pupil, "evaluate", own_rows(two_moons)) == expected


def test_a_checkpoint_without_optimizer_is_not_where_a_lost_client_goes_on(
    workshop: Workshop, two_moons: Rows
) -> None:
    client = workshop.create(ClientSpec("mlp", architecture=SMALL))
    workshop.do(client, "forward_backward", own_rows(two_moons))
    workshop.do(client, "optim_step")
    told = workshop.do(client, "save_state", {"include_optimizer": False})
    newest = workshop.client(client).last_checkpoint
    assert newest is not None
    assert newest["artifact_id"] != told["artifact_id"]
    assert (newest["automatic"], newest["step"]) == (True, 1)


def test_a_deleted_client_shows_all_that_a_lost_worker_had_spent(workshop: Workshop, two_moons: Rows) -> None:
    dataset = workshop.dataset(*two_moons)
    spec = ClientSpec("mlp", dataset_id=dataset.id, batch_size=40, dp=NOISY, max_steps=5000)
    client = workshop.create(spec)
    workshop.submit(client, "train", {"steps": 5000})
    workshop.until(lambda: len(workshop.ledger(client)) > 20)
    workshop.kill_worker(client)
    workshop.steer("terminate", client)
    workshop.until(lambda: workshop.worker(client) is None)

    def agrees() -> bool:
        privacy, charges = workshop.client(client).privacy, workshop.ledger(client)
        return privacy is not None and privacy["steps"] == len(charges)

    workshop.until(agrees)
    privacy = workshop.client(client).privacy
    assert privacy is not None
    assert privacy["spent_epsilon"] >= workshop.ledger(client)[-1].epsilon_after * 0.999


def test_a_held_run_shows_every_step_it_took(workshop: Workshop, two_moons: Rows) -> None:
    dataset = workshop.dataset(*two_moons)
    spec = ClientSpec("mlp", dataset_id=dataset.id, batch_size=40, dp=NOISY, max_steps=5000)
    client = workshop.create(spec)
    workshop.submit(client, "train", {"steps": 5000})
    workshop.until(lambda: workshop.client(client).step > 5)
    workshop.steer("pause", client)
    workshop.until(
        lambda: workshop.stands_still(client) and workshop.client(client).step == len(workshop.ledger(client))
    )
    workshop.steer("terminate", client)


def test_a_retry_after_the_end_is_still_the_same_operation(workshop: Workshop, two_moons: Rows) -> None:
    client = workshop.create(ClientSpec("mlp", architecture=SMALL))
    first = workshop.submit(client, "evaluate", own_rows(two_moons), key="once")
    workshop.ended(first)
    workshop.steer("terminate", client)
    assert workshop.submit(client, "evaluate", own_rows(two_moons), key="once") == first


def test_rows_are_public_or_protected_but_not_both(workshop: Workshop, two_moons: Rows) -> None:
    known = workshop.dataset(*two_moons, privacy="public")
    with pytest.raises(PrivacyRefused, match="Delete that one first"):
        workshop.dataset_of(known)
    workshop.forget(known.id)
    assert workshop.dataset_of(known).privacy == "protected"


def test_what_is_refused_leaves_no_rows_behind(workshop: Workshop, two_moons: Rows) -> None:
    folder = workshop.settings.home / "blobs"
    before = sorted(folder.rglob("*"))
    features = two_moons[0].astype(np.float64)
    with pytest.raises(InvalidRequest):
        workshop.dataset(*two_moons, delta=0.5)
    with pytest.raises(InvalidRequest):
        workshop.dataset(*two_moons, epsilon_cap=0.0)
    features[3, 1] = 1e300
    with pytest.raises(InvalidRequest, match="NaN or infinity"):
        workshop.dataset(features, two_moons[1])
    assert sorted(folder.rglob("*")) == before


def test_nothing_that_is_answered_tells_the_size_of_a_drawn_batch(
    workshop: Workshop, two_moons: Rows
) -> None:
    dataset = workshop.dataset(*two_moons)
    dp = DPSpec(noise_multiplier=1.5, max_grad_norm=1e-6)  # so small that every drawn row is clipped
    client = workshop.create(ClientSpec("mlp", dataset_id=dataset.id, batch_size=40, dp=dp))
    learned = workshop.do(client, "forward_backward", {"dataset_id": dataset.id})
    taken = workshop.do(client, "optim_step")
    assert (learned["num_examples"], learned["tokens_processed"]) == (None, None)
    assert taken["dp_metrics"]["num_clipped"] is None


def test_padding_does_not_make_another_example_of_the_same_text(workshop: Workshop) -> None:
    client = workshop.create(ClientSpec("tiny-llama", dp=NOISY))
    narrow = {"input_ids": [[5, 6, 7]], "attention_mask": [[1, 1, 1]]}
    wide = {"input_ids": [[5, 6, 7, 0, 0]], "attention_mask": [[1, 1, 1, 0, 0]]}
    other = {"input_ids": [[5, 6, 8]], "attention_mask": [[1, 1, 1]]}
    workshop.do(client, "forward_backward", {"batch": narrow})
    assert "came twice" in workshop.refused(client, "forward_backward", {"batch": wide})["message"]
    workshop.do(client, "forward_backward", {"batch": other})


def test_a_deleted_client_keeps_no_rows_of_its_callers(workshop: Workshop, two_moons: Rows) -> None:
    client = workshop.create(ClientSpec("mlp", architecture=SMALL))
    learned = workshop.submit(client, "forward_backward", own_rows(two_moons))
    workshop.ended(learned)
    assert workshop.operation(learned).payload is not None
    workshop.steer("terminate", client)
    assert workshop.operation(learned).payload is None


def test_a_deleted_client_keeps_only_the_checkpoints_it_was_asked_for(
    workshop: Workshop, two_moons: Rows
) -> None:
    client = workshop.create(ClientSpec("mlp", architecture=SMALL))
    workshop.do(client, "forward_backward", own_rows(two_moons))
    workshop.do(client, "optim_step")
    asked_for = workshop.do(client, "save_state")["artifact_id"]
    workshop.do(client, "forward_backward", own_rows(two_moons))
    workshop.do(client, "optim_step")
    workshop.until(lambda: (workshop.client(client).last_checkpoint or {}).get("automatic", False))
    workshop.steer("terminate", client)
    workshop.until(lambda: workshop.client(client).last_checkpoint is None)
    with workshop.database.read() as session:
        kept = list(session.exec(select(Artifact.id).where(Artifact.client_id == client)))
    assert kept == [asked_for]


def test_what_cannot_be_learned_from_is_said_at_the_start_whoever_would_be_drawn(
    workshop: Workshop, two_moons: Rows
) -> None:
    features, targets = two_moons
    targets = targets.copy()
    targets[17] = 2  # SMALL answers with two classes
    dataset = workshop.dataset(features, targets)
    client = workshop.create(ClientSpec("mlp", architecture=SMALL, dataset_id=dataset.id, batch_size=4))
    assert workshop.client(client).status == "error"
    assert "class numbers from 0 to 1" in (workshop.client(client).reason or "")
    assert workshop.ledger(client) == []


def test_draws_are_not_accumulated(workshop: Workshop, two_moons: Rows) -> None:
    dataset = workshop.dataset(*two_moons)
    with pytest.raises(InvalidRequest, match="larger batch_size"):
        workshop.create(ClientSpec("mlp", dataset_id=dataset.id, gradient_accumulation_steps=4))


def test_delta_of_a_private_client_on_public_rows_is_the_one_asked_for(
    workshop: Workshop, two_moons: Rows
) -> None:
    dataset = workshop.dataset(*two_moons, privacy="public")
    dp = DPSpec(noise_multiplier=1.5, target_delta=1e-7)
    client = workshop.create(ClientSpec("mlp", dataset_id=dataset.id, batch_size=40, dp=dp))
    assert (workshop.client(client).privacy or {})["delta"] == 1e-7


@pytest.mark.parametrize("ending", ["terminate", "close"])
def test_what_takes_long_is_broken_off_when_its_client_ends(tmp_path: Path, ending: str) -> None:
    with opened(tmp_path) as shop:
        client = shop.create(ClientSpec("tiny-llama"))
        texts = {"prompts": ["once upon a time"] * 500, "max_tokens": 200, "temperature": 0.0}
        long = shop.submit(client, "sample", {**texts, "top_p": 1.0, "top_k": 0, "stop_sequences": []})
        shop.until(lambda: shop.operation(long).status == "running")
        began = time.monotonic()
        if ending == "terminate":
            shop.steer("terminate", client)
            assert shop.ended(long).status == "cancelled"
        else:
            shop.close()
            assert shop.operation(long).status == "pending"
        assert time.monotonic() - began < 5.0


def test_a_client_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before(
    tmp_path: Path, two_moons: Rows
) -> None:
    shop = Workshop(tmp_path)
    shop.open()
    client = shop.create(ClientSpec("mlp", architecture=SMALL, dp=NOISY))
    for step in (1, 2, 3):
        shop.do(client, "forward_backward", own_rows(two_moons))
        shop.do(client, "optim_step")
        if step == 2:
            shop.do(client, "save_state")
    shop.close()
    newest = shop.client(client).last_checkpoint
    assert newest is not None
    with shop.database.read() as session:
        artifact = session.get_one(Artifact, newest["artifact_id"])
    blob = shop.settings.home / "blobs" / artifact.blob[:2] / artifact.blob
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    with opened(tmp_path) as again:
        assert again.do(client, "evaluate", own_rows(two_moons))["num_examples"] == 16
        assert again.client(client).step == 2
        assert "its newest checkpoint does not open" in (again.client(client).reason or "")
        assert len(again.ledger(client)) == 3, "what was spent stays spent"


def test_rows_are_forgotten_only_once_that_is_stored(workshop: Workshop, two_moons: Rows) -> None:
    dataset = workshop.dataset(*two_moons)
    blobs = Blobs(workshop.settings.home / "blobs")
    with contextlib.suppress(ZeroDivisionError), workshop.database.write() as session:
        Datasets(session, blobs).delete(LOCAL_PRINCIPAL, dataset.id, users=0)
        raise ZeroDivisionError
    assert workshop.found(dataset.id).deleted_at is None
    assert blobs.path(dataset.blob).exists()


def test_a_retry_with_another_policy_is_another_request(workshop: Workshop, two_moons: Rows) -> None:
    known = workshop.dataset(*two_moons, idempotency_key="policy")
    assert workshop.dataset_of(known, idempotency_key="policy").id == known.id
    for policy in ({"epsilon_cap": 20.0}, {"delta": 1e-6}, {"population": known.id}):
        with pytest.raises(IdempotencyConflict):
            workshop.dataset_of(known, idempotency_key="policy", **policy)
