"""An audit as a notebook asks for it: against real workers, and nothing of the client changes."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from tests.sdk.conftest import NewClient, Rows
from tg_workbench import InvalidRequest, OperationCancelled, Refused, Workbench
from tg_workbench.sdk import Audit, Dataset


def test_a_mechanism_is_audited_below_what_it_promises_and_nothing_is_spent(
    workbench: Workbench, new_client: NewClient, dataset: Dataset
) -> None:
    client = new_client(dataset=dataset, target_epsilon=3.0, max_steps=40, batch_size=50)
    client.train(steps=10, progress=False).result(120)
    before, charged = client.refresh(), workbench.ledger(client=client).events
    audit = workbench.audit(client, steps=40, canaries=2000)
    assert (audit.method, audit.steps, audit.canaries, audit.confidence) == ("mechanism", 40, 2000, 0.95)
    assert audit.epsilon == pytest.approx(3.0, abs=0.01)
    assert 0.0 < audit.epsilon_lower_bound < (audit.epsilon or 0.0)
    assert audit.gap == pytest.approx((audit.epsilon or 0.0) - audit.epsilon_lower_bound)
    assert not audit.broken
    after = client.refresh()
    assert (after.step, after.privacy) == (before.step, before.privacy)
    assert workbench.ledger(client=client).events == charged


def test_without_a_number_the_steps_that_were_taken_are_audited(
    workbench: Workbench, new_client: NewClient, dataset: Dataset
) -> None:
    client = new_client(dataset=dataset, noise_multiplier=2.0, max_steps=50, batch_size=50)
    assert workbench.audit(client.id, canaries=500).steps == 50, "planned, while none was taken"
    client.train(steps=7, progress=False).result(120)
    audit = workbench.audit(client, canaries=500)
    assert audit.steps == 7
    assert audit.epsilon == pytest.approx(client.privacy.spent_epsilon, rel=0.05)


def test_an_audit_is_a_future_and_found_again(
    workbench: Workbench, new_client: NewClient, rows: Rows
) -> None:
    client = new_client(noise_multiplier=2.0)
    client.forward_backward(**rows).result(120)
    client.optim_step().result(60)
    future = client.audit(canaries=200, confidence=0.9)
    audit = asyncio.run(_awaited(future))
    assert isinstance(audit, Audit)
    assert (audit.steps, audit.confidence) == (1, 0.9)
    assert workbench.future(future.id).result() == audit


async def _awaited(future: Any) -> Any:
    return await future


def test_a_long_audit_says_how_many_steps_it_took(
    workbench: Workbench, new_client: NewClient, dataset: Dataset
) -> None:
    client = new_client(dataset=dataset, noise_multiplier=8.0, batch_size=2)
    audit = workbench.audit(client, steps=5_001, canaries=100)
    assert audit.steps <= 5_000
    assert f"{audit.steps} of 5001 steps were audited" in audit.note


def test_an_audit_can_be_stopped(workbench: Workbench, new_client: NewClient, dataset: Dataset) -> None:
    client = new_client(dataset=dataset, noise_multiplier=8.0)
    future = client.audit(steps=5_000, canaries=20_000)
    deadline = time.monotonic() + 60
    while future.status == "pending" and time.monotonic() < deadline:
        time.sleep(0.05)
    client.stop()
    with pytest.raises(OperationCancelled, match="stopped"):
        future.result(30)
    assert client.train(steps=2, progress=False).result(60).steps_done == 2


@pytest.mark.parametrize(
    "asked",
    [
        {"method": "guesswork"},
        {"method": "_mechanism"},
        {"method": "mechanism", "twins": 8},
        {"method": "canaries", "canaries": 500},
        {"method": "canaries", "steps": 5},
        {"method": "mechanism", "canaries": 99},
        {"method": "mechanism", "canaries": 20_001},
        {"method": "mechanism", "steps": 0},
        {"method": "lira", "twins": 65},
        {"confidence": 1.0},
        {"confidence": 0.0},
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_refused_at_the_door(
    workbench: Workbench, new_client: NewClient, asked: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest):
        workbench.audit(new_client(noise_multiplier=1.0), **asked)


def test_what_is_not_private_has_no_mechanism_to_audit(workbench: Workbench, new_client: NewClient) -> None:
    with pytest.raises(InvalidRequest, match="without differential privacy"):
        workbench.audit(new_client(), steps=5)


def test_steps_must_be_known(workbench: Workbench, new_client: NewClient) -> None:
    with pytest.raises(InvalidRequest, match="how many 'steps'"):
        workbench.audit(new_client(noise_multiplier=1.0))


def test_an_audit_waits_for_no_gradient(workbench: Workbench, new_client: NewClient, rows: Rows) -> None:
    client = new_client(noise_multiplier=1.0)
    client.forward_backward(**rows).result(120)
    with pytest.raises(Refused, match="optim_step before audit"):
        workbench.audit(client, steps=5)
    assert client.optim_step().result(60).step == 1, "the gradient is still there"


def test_rows_are_audited_by_twins(workbench: Workbench, new_client: NewClient, dataset: Dataset) -> None:
    client = new_client(dataset=dataset, target_epsilon=3.0, max_steps=20, batch_size=50)
    audit = workbench.audit(client, "lira", twins=4)
    assert (audit.twins, audit.rows, audit.steps, audit.covered_by_epsilon) == (4, 200, 20, False)
    assert audit.epsilon_lower_bound <= (audit.epsilon or 0.0) <= 3.01
    assert 0.3 < (audit.auc or 0.0) < 0.8
    assert "NOT covered by ε" in audit._repr_html_()


# ---------------------------------------------------------------------------------------- canaries
def test_a_private_model_is_audited_by_its_canaries(
    workbench: Workbench, new_client: NewClient, dataset: Dataset
) -> None:
    client = new_client(dataset=dataset, target_epsilon=3.0, max_steps=30, batch_size=50, audit_canaries=100)
    assert client.config["audit_canaries"] == 100
    assert "audit_seed" not in client.config
    client.train(steps=30, progress=False).result(120)
    audit = workbench.audit(client, "canaries")
    assert audit.epsilon == client.privacy.spent_epsilon
    assert audit.epsilon_lower_bound <= (audit.epsilon or 0.0) <= 3.0
    assert (audit.canaries, audit.steps, audit.covered_by_epsilon) == (100, 30, True)
    assert "audit_seed" not in repr(client.refresh())


def test_a_language_model_is_audited_by_sequences_that_nobody_wrote(
    workbench: Workbench, new_client: NewClient
) -> None:
    notes = [f"note {number} of many that everybody knows" for number in range(40)]
    texts = workbench.datasets.upload("known notes", texts=notes, privacy="public")
    client = new_client("tiny-llama", dataset=texts, batch_size=40, audit_canaries=40, learning_rate=0.01)
    loss = client.train(steps=40, progress=False).result(120).loss
    audit = workbench.audit(client, "canaries")
    assert (audit.canaries, audit.epsilon, audit.gap) == (40, None, None)
    assert (audit.auc or 0.0) > 0.8, "what was learned 40 times shows"
    assert audit.epsilon_lower_bound > 0.2
    assert (loss or 9.0) < 4.0, "the notes were learned as well, and the loss is theirs"
    with pytest.raises(InvalidRequest, match="audit a language model by canaries"):
        workbench.audit(client, "lira")


@pytest.mark.parametrize("wrong", [-1, 10_001, 201])
def test_canaries_are_no_more_than_the_rows(new_client: NewClient, dataset: Dataset, wrong: int) -> None:
    with pytest.raises(InvalidRequest):
        new_client(dataset=dataset, audit_canaries=wrong)


def test_canaries_need_batches_that_the_server_draws(
    workbench: Workbench, new_client: NewClient, dataset: Dataset
) -> None:
    with pytest.raises(InvalidRequest, match="beside a dataset"):
        new_client(noise_multiplier=1.0, audit_canaries=50)
    with pytest.raises(InvalidRequest, match="without audit_canaries"):
        workbench.audit(new_client(dataset=dataset), "canaries")


# ------------------------------------------------------------------------------------ what is drawn
FOUND = Audit("mechanism", 1.25, 0.95, 1e-5, 3.0, 1.75, canaries=2000, steps=40, guesses=100, correct=90)


def test_an_audit_is_a_frozen_value_that_says_what_it_proves() -> None:
    with pytest.raises(FrozenInstanceError):
        FOUND.epsilon = 0.1
    assert str(FOUND) == (
        "gradient canaries: at least ε = 1.25 with 95 % confidence at δ = 1e-05; promised is at most ε = 3.00"
    )
    assert "nothing was promised" in str(replace(FOUND, epsilon=None, gap=None))
    assert "BROKEN" in str(replace(FOUND, epsilon=1.0, gap=-0.25))


def test_an_audit_draws_itself_without_scripts_or_addresses() -> None:
    html = replace(FOUND, note="<script>alert(1)</script>", covered_by_epsilon=False)._repr_html_()
    assert not re.search(r"<script|https?:|src=|href=", html)
    assert "&lt;script&gt;" in html
    assert ">1.25<" in html
    assert ">3.00<" in html
    assert "gap 1.75" in html
    assert "NOT covered by ε" in html
    bars = [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', html)]
    assert bars[0] / bars[1] == pytest.approx(1.25 / 3.0, abs=0.01)
    assert "currentColor" in html, "readable on a dark page"
    assert "no guarantee" in replace(FOUND, epsilon=None, gap=None)._repr_html_()
    assert "broken by 0.25" in replace(FOUND, epsilon=1.0, gap=-0.25)._repr_html_()


def test_audits_are_drawn_side_by_side() -> None:
    other = replace(FOUND, method="canaries", epsilon=None, gap=None)
    figure = FOUND.plot(other, FOUND)
    promised, measured = figure.data
    assert list(promised.x) == ["1. gradient canaries", "black-box canaries", "3. gradient canaries"]
    assert list(promised.y) == [3.0, None, 3.0]
    assert list(measured.y) == [1.25, 1.25, 1.25]
    assert [note.text for note in figure.layout.annotations] == [
        "gap 1.75",
        "no promise to hold it against",
        "gap 1.75",
    ]
