from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests.sdk.conftest import NewClient, Rows
from tg_workbench import (
    ArtifactNotFound,
    BudgetExhausted,
    ClientFailed,
    ClientTerminated,
    DatasetInUse,
    DatasetNotFound,
    InvalidBatch,
    InvalidRequest,
    NoGradient,
    NotALanguageModel,
    Privacy,
    PrivacyRefused,
    Unauthenticated,
    UnknownModel,
    Workbench,
)
from tg_workbench.sdk import Dataset, Optimizer


def test_a_run_trains_privately_while_the_caller_goes_on(
    new_client: NewClient, dataset: Dataset, rows: Rows
) -> None:
    client = new_client(dataset=dataset, target_epsilon=3.0, max_steps=30, batch_size=50)
    run = client.train(steps=30, progress=False)
    result = run.result(timeout=240)
    assert (result.steps_done, result.step, result.stopped) == (30, 30, False)
    assert 0 < (result.privacy.spent_epsilon or 0.0) <= 3.0
    assert run.progress.fraction == 1.0
    assert client.privacy.mode == "sampled"
    assert (client.evaluate(**rows).accuracy or 0.0) > 0.8


def test_steps_by_hand_learn_the_rows_that_were_sent(new_client: NewClient, rows: Rows) -> None:
    client = new_client()
    futures = [(client.forward_backward(**rows), client.optim_step()) for _ in range(20)]
    losses = [gradients.result().loss or 0.0 for gradients, _ in futures]
    assert [step.result().step for _, step in futures] == list(range(1, 21))
    assert losses[-1] < losses[0] / 2
    assert client.privacy.guarantee == "none"
    labels = np.array([said.label for said in client.predict(rows["features"])])
    assert (labels == rows["targets"]).mean() > 0.9


@pytest.mark.parametrize("engine", ["opacus-hooks", "opacus-ghost"])
def test_a_run_is_as_private_whichever_engine_clips(
    new_client: NewClient, dataset: Dataset, engine: str
) -> None:
    privacy = Privacy(noise_multiplier=4.0, max_grad_norm=0.5, engine=engine)
    spent = []
    for each in (privacy, replace(privacy, engine="book-keeping")):
        client = new_client(dataset=dataset, privacy=each, max_steps=4, batch_size=50)
        assert client.train(steps=4, progress=False).result(timeout=240).steps_done == 4
        spent.append(client.privacy.spent_epsilon or 0.0)
    assert spent[0] == spent[1] > 0


def test_an_engine_nobody_knows_is_refused_with_the_list(new_client: NewClient, dataset: Dataset) -> None:
    with pytest.raises(InvalidRequest, match=r"book-keeping.*opacus-hooks.*opacus-ghost"):
        new_client(dataset=dataset, privacy=Privacy(noise_multiplier=1.0, engine="ghost"), max_steps=8)


def test_language_model_learns_while_it_computes_its_blocks_twice(new_client: NewClient) -> None:
    client = new_client(
        "tiny-llama",
        architecture=None,
        lora_rank=2,
        privacy=Privacy(noise_multiplier=1.0),
        gradient_checkpointing=True,
    )
    client.forward_backward(input_ids=[[1, 2, 3], [3, 2, 1]])
    assert client.optim_step().result(timeout=60).step == 1
    rows_only = new_client(gradient_checkpointing=True)
    with pytest.raises((ClientFailed, ClientTerminated), match="for language models"):
        rows_only.forward_backward(features=[[0.0] * 4], targets=[0]).result(timeout=60)


def test_a_model_learns_in_bfloat16_and_unknown_precisions_are_refused(
    new_client: NewClient, rows: Rows
) -> None:
    client = new_client(private=True, precision="bf16-mixed", max_steps=8)
    client.forward_backward(**rows)
    assert client.optim_step().result(timeout=60).step == 1
    with pytest.raises(InvalidRequest, match=r"float32.*bf16-mixed"):
        new_client(precision="fp8")
    with pytest.raises(InvalidRequest, match="engine opacus-ghost cannot clip under precision bf16-mixed"):
        new_client(
            precision="bf16-mixed", privacy=Privacy(noise_multiplier=1.0, engine="opacus-ghost"), max_steps=8
        )


def test_lists_and_arrays_mean_the_same(new_client: NewClient, rows: Rows) -> None:
    client = new_client()
    arrays = client.forward_backward(**rows)
    lists = client.forward_backward({name: values.tolist() for name, values in rows.items()})
    assert arrays.result().loss == pytest.approx(lists.result().loss)
    assert arrays.result().num_examples == 200


def test_a_checkpoint_brings_the_model_back(new_client: NewClient, rows: Rows) -> None:
    client = new_client()
    client.forward_backward(**rows)
    client.optim_step()
    checkpoint = client.save_state(metadata={"note": "first"})
    before = client.evaluate(**rows).loss
    client.forward_backward(**rows)
    client.optim_step().result()
    view = client.load_state(checkpoint)
    assert view.step == checkpoint.step == 1
    assert client.evaluate(**rows).loss == pytest.approx(before)
    assert checkpoint.artifact_id in [stored.artifact_id for stored in client.checkpoints()]


def test_a_language_model_learns_texts_and_writes(workbench: Workbench, new_client: NewClient) -> None:
    letters = workbench.datasets.upload("letters", texts=["Dear Anna", "Yours, Bob"] * 8)
    client = new_client("tiny-llama", dataset=letters, lora_rank=2, target_epsilon=8.0, max_steps=2)
    client.train(steps=2, progress=False).result(timeout=240)
    (completion,) = client.sample("Dear", max_tokens=5)
    assert completion.prompt == "Dear"
    assert 0 < completion.tokens_generated <= 5


def test_a_run_stops_when_it_is_told(new_client: NewClient, public_dataset: Dataset) -> None:
    client = new_client(dataset=public_dataset)
    run = client.train(steps=1_000_000, progress=False)
    while not run.progress.done_steps:
        time.sleep(0.05)
    run.stop()
    result = run.result(timeout=60)
    assert result.stopped
    assert 0 < result.steps_done < 1_000_000
    assert client.status == "ready"


def test_a_held_client_goes_on_when_it_is_let_go(new_client: NewClient, rows: Rows) -> None:
    client = new_client()
    client.forward_backward(**rows).result()
    assert client.pause().status == "paused"
    step = client.optim_step()
    time.sleep(0.5)
    assert not step.done()
    client.resume()
    assert step.result(timeout=60).step == 1


def test_waiting_leaves_the_event_loop_free(new_client: NewClient, rows: Rows) -> None:
    client = new_client()
    client.forward_backward(**rows)
    future = client.optim_step()

    async def wait() -> int:
        beats = asyncio.create_task(asyncio.sleep(0.01))
        view = await client.wait(timeout=240)
        assert beats.done()
        assert (await future).step == view.step
        return view.step

    assert asyncio.run(wait()) == 1


def test_a_budget_ends_before_it_is_passed(new_client: NewClient, rows: Rows) -> None:
    client = new_client(noise_multiplier=1.0, target_epsilon=5.0, delta=1e-5)
    client.forward_backward(**rows)
    client.optim_step().result(timeout=240)
    client.forward_backward(**rows)
    with pytest.raises(BudgetExhausted, match="budget of this run is spent") as refused:
        client.optim_step().result()
    assert refused.value.spent_epsilon <= refused.value.target_epsilon == 5.0
    assert client.step == 1


def test_what_cannot_be_done_says_what_to_do_instead(new_client: NewClient, rows: Rows) -> None:
    client = new_client()
    with pytest.raises(NoGradient, match="call forward_backward before"):
        client.optim_step().result()
    with pytest.raises(NotALanguageModel, match="predict"):
        client.sample("Once")
    with pytest.raises(InvalidBatch, match="this model takes 4"):
        client.evaluate(features=np.zeros((2, 3)), targets=[0, 1])
    with pytest.raises(InvalidBatch, match="not finite"):
        client.forward_backward(features=rows["features"] * np.nan, targets=rows["targets"]).result()
    with pytest.raises(ArtifactNotFound):
        client.load_state("art-nothing")


def test_what_cannot_be_created_says_what_can(
    workbench: Workbench, new_client: NewClient, dataset: Dataset
) -> None:
    with pytest.raises(UnknownModel, match="smollm2-135m"):
        workbench.create_training_client("gpt-17")
    with pytest.raises(PrivacyRefused, match="protected"):
        workbench.create_training_client("mlp", dataset=dataset, private=False)
    with pytest.raises(DatasetNotFound):
        workbench.create_training_client("mlp", dataset="ds-nothing")


def test_an_ended_client_says_that_it_has_ended(new_client: NewClient) -> None:
    client = new_client()
    assert client.terminate().status == "terminated"
    with pytest.raises(ClientTerminated, match="create a new one"):
        client.optim_step()
    assert [event.type for event in client.events()].count("status") >= 2


def test_a_dataset_lives_and_is_forgotten(workbench: Workbench, new_client: NewClient, rows: Rows) -> None:
    more = {**rows, "features": rows["features"] + 0.02}
    points = workbench.datasets.upload("more points", **more, privacy="public")
    assert points.id in [listed.id for listed in workbench.datasets.list()]
    client = new_client(dataset=points)
    with pytest.raises(DatasetInUse, match="delete those clients, first"):
        workbench.datasets.delete(points)
    client.terminate()
    workbench.datasets.delete(points)
    with pytest.raises(DatasetNotFound):
        workbench.datasets.get(points.id)


def test_the_ledger_tells_what_was_spent(workbench: Workbench, new_client: NewClient, rows: Rows) -> None:
    client = new_client(noise_multiplier=2.0)
    client.forward_backward(**rows)
    client.optim_step().result(timeout=240)
    ledger = workbench.ledger(client=client)
    assert [entry["step"] for entry in ledger.events] == [1]
    assert ledger.spent_epsilon == client.privacy.spent_epsilon


def test_a_key_signs_in_until_it_is_revoked(workbench: Workbench, socket_path: str) -> None:
    key = workbench.api_keys.create("a script", scopes=["read"])
    script = Workbench(socket=socket_path, api_key=key.key)
    assert isinstance(script.training_clients.list(), list)
    workbench.api_keys.delete(key)
    with pytest.raises(Unauthenticated, match="revoked"):
        script.training_clients.list()


def test_a_plan_is_kept_by_the_run_that_follows_it(
    workbench: Workbench, rows: Rows, new_client: NewClient
) -> None:
    people = workbench.datasets.upload("planned", features=rows["features"] + 9, targets=rows["targets"])
    plan = workbench.plan_privacy(dataset=people, batch_size=20, steps=30, target_epsilon=2.0)
    assert plan.fits
    assert plan.epsilon is not None
    assert "of the dataset's 10 in all" in str(plan)
    client = new_client(
        dataset=people,
        batch_size=20,
        max_steps=30,
        noise_multiplier=plan.noise_multiplier,
        target_epsilon=2.0,
    )
    client.train(steps=30).result()
    assert client.privacy.spent_epsilon == pytest.approx(plan.epsilon, rel=1e-6)
    again = workbench.plan_privacy(
        dataset=people, batch_size=20, steps=30, noise_multiplier=plan.noise_multiplier
    )
    assert again.total_epsilon is not None
    assert again.total_epsilon > plan.epsilon
    figure = plan.plot(again)
    assert len(figure.data) == 4
    assert figure.layout.xaxis.title.text == "steps"


def test_scattering_learns_images_privately_and_saves_its_average(
    new_client: NewClient, workbench: Workbench
) -> None:
    known = load_digits()
    images, classes = known.images[:, None].astype(np.float32) / 16, known.target.astype(np.int64)
    dataset = workbench.datasets.upload("digits", features=images[:1437], targets=classes[:1437])
    optimizer = Optimizer("sgd", weight_decay=0.0, momentum=0.9, tail_averaging=0.5)
    plan = {"optimizer": optimizer, "learning_rate": 0.5, "batch_size": 360, "max_steps": 60}
    client = new_client("scattering", dataset=dataset, target_epsilon=3.0, **plan)
    client.train(steps=60, progress=False).result(timeout=240)
    assert 0 < (client.privacy.spent_epsilon or 0.0) <= 3.0
    found = client.evaluate(features=images[1437:], targets=classes[1437:])
    assert (found.accuracy or 0.0) > 0.8
    other = new_client("scattering", architecture={"input_shape": [1, 8, 8], "output_size": 10}, **plan)
    other.load_state(client.save_state())
    assert other.evaluate(features=images[1437:], targets=classes[1437:]).loss == pytest.approx(found.loss)


def test_images_of_bytes_are_kept_as_bytes_and_learned_from_as_numbers_from_0_to_1(
    new_client: NewClient, workbench: Workbench
) -> None:
    known = load_digits()
    grey = (known.images[:400] * 255 / 16).astype(np.uint8)
    dataset = workbench.datasets.upload("grey", features=grey, targets=known.target[:400], privacy="public")
    assert dataset.tensors is not None
    assert dataset.tensors["features"] == {"shape": [400, 8, 8], "dtype": "U8"}
    client = new_client("mlp", dataset=dataset, batch_size=100, learning_rate=0.01)
    client.train(steps=5, progress=False).result(timeout=120)
    of_bytes = client.evaluate(features=grey, targets=known.target[:400])
    of_numbers = client.evaluate(features=grey.astype(np.float32) / 255, targets=known.target[:400])
    assert client.evaluate(dataset=dataset).loss == of_bytes.loss == pytest.approx(of_numbers.loss)
    as_they_are = client.evaluate(features=grey.astype(np.int64), targets=known.target[:400])
    assert as_they_are.loss != pytest.approx(of_numbers.loss, rel=0.01)


def test_what_a_front_makes_of_features_is_taken_from_nobody(new_client: NewClient) -> None:
    client = new_client("scattering", architecture={"input_shape": [1, 8, 8], "output_size": 10})
    made = {"prepared": np.zeros((2, 81, 2, 2), dtype=np.float16), "targets": np.array([0, 1])}
    with pytest.raises(InvalidBatch, match="tensors of a batch are named"):
        client.forward_backward(made)
    with pytest.raises(InvalidRequest):
        client.evaluate({name: column.tolist() for name, column in made.items()})


def test_tail_averaging_without_an_end_is_refused(new_client: NewClient) -> None:
    with pytest.raises(InvalidRequest, match="max_steps"):
        new_client(optimizer=Optimizer("sgd", tail_averaging=0.5))


def test_scattering_without_the_shape_of_an_image_is_refused(new_client: NewClient) -> None:
    with pytest.raises(InvalidRequest, match="architecture"):
        new_client("scattering")
