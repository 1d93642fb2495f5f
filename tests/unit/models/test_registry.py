"""Models have versions that are never given twice, one owner, and weights that only their seal opens."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from sqlmodel import Session

from tests.unit.models.conftest import ALICE, BOB, Learn
from tg_workbench.errors import InvalidRequest, ModelInUse, ModelNotFound, NotFound, SealBroken, StorageFull
from tg_workbench.models import Model, ModelQuery, Models, Shelf
from tg_workbench.models.registry import MOST_ALIASES
from tg_workbench.storage import Blobs, Database, LeftBlobs


@pytest.fixture
def models(session: Session, blobs: Blobs, tmp_path: Path) -> Models:
    return Models(session, blobs, tmp_path)


def names(models: Models, query: ModelQuery | None = None) -> list[str]:
    return [model.name for model in models.list_page(ALICE, query)[0]]


def blobs_of(blobs: Blobs) -> int:
    return sum(path.is_file() for path in blobs.folder.rglob("*"))


# ----------------------------------------------------------------------------- kept
def test_what_was_learned_comes_back_bit_for_bit(models: Models, learn: Learn) -> None:
    learned = learn(onnx=b"graph" * 200_000, job_id="job-1")
    model = models.register(learned)
    assert models.get(ALICE, model.id) is model
    assert models.opened(model) == (learned.weights, learned.onnx)
    assert model.size_bytes == len(learned.weights)
    assert models.opened(models.register(learn()))[1] is None


def test_the_same_job_gets_the_same_model(models: Models, learn: Learn, blobs: Blobs) -> None:
    first = models.register(learn(job_id="job-1"))
    kept = blobs_of(blobs)
    assert models.register(learn(job_id="job-1", name="other")) is first
    assert (names(models), blobs_of(blobs)) == (["MLP_v1"], kept)


def test_bytes_put_apart_are_dropped_when_the_job_has_its_model(
    database: Database, blobs: Blobs, tmp_path: Path, learn: Learn
) -> None:
    shelf = Shelf(blobs, tmp_path)
    for _ in range(2):
        learned = learn(job_id="job-1")
        shelved = shelf.put_apart(database, learned)
        with database.write() as session:
            Models(session, blobs, tmp_path).register(learned, shelved)
    assert blobs_of(blobs) == 1


def test_bytes_put_apart_and_never_registered_go_in_an_hour(
    database: Database, blobs: Blobs, tmp_path: Path, learn: Learn
) -> None:
    shelf, learned = Shelf(blobs, tmp_path), learn(onnx=b"graph", job_id="job-1")
    kept = shelf.put_apart(database, learned)
    with database.write() as session:
        Models(session, blobs, tmp_path).register(learned, kept)
    shelf.put_apart(database, learn(onnx=b"graph", job_id="job-2"))  # and its worker is killed
    assert blobs_of(blobs) == 4
    with database.write() as session:
        session.connection().exec_driver_sql("UPDATE left_blobs SET due_at = 0")
        LeftBlobs(session, blobs).sweep()
    assert blobs_of(blobs) == 2
    assert blobs.path(kept.weights_blob)


def test_weights_lie_sealed_and_open_in_their_own_place_only(
    models: Models, learn: Learn, blobs: Blobs
) -> None:
    one, two = (models.register(learn(onnx=b"graph")) for _ in range(2))
    assert b"weight" not in blobs.read(one.weights_blob)
    one.weights_blob, two.weights_blob = two.weights_blob, one.weights_blob
    with pytest.raises(SealBroken):
        models.opened(one)
    two.weights_blob = two.onnx_blob or ""
    with pytest.raises(SealBroken):
        models.opened(two)


def test_figures_that_are_not_finite_are_told_as_null(models: Models, learn: Learn) -> None:
    model = models.register(learn(performance={"accuracy": math.nan, "f1_score": 0.5}))
    assert (model.performance, model.accuracy) == ({"accuracy": None, "f1_score": 0.5}, None)


def test_a_model_is_its_owners(models: Models, learn: Learn) -> None:
    model = models.register(learn())
    with pytest.raises(ModelNotFound):
        models.get(BOB, model.id)
    assert models.list_page(BOB) == ([], 0)
    with pytest.raises(ModelNotFound):
        models.delete(BOB, model.id, users=0)


# ----------------------------------------------------------------------------- names and versions
def test_a_model_without_a_name_is_called_by_its_type_and_version(models: Models, learn: Learn) -> None:
    made = [
        models.register(learn(model_ref=ref)) for ref in ("resnet50", "resnet50", "/models/letter-writer")
    ]
    assert [(model.name, model.version) for model in made] == [
        ("ResNet50_v1", 1),
        ("ResNet50_v2", 2),
        ("letter-writer_v1", 1),
    ]


def test_a_given_name_is_kept_and_its_versions_count(models: Models, learn: Learn) -> None:
    first, second = (models.register(learn(name=" churn ")) for _ in range(2))
    assert [(model.name, model.version) for model in (first, second)] == [("churn", 1), ("churn", 2)]
    assert models.versions(first) == [second, first]
    assert models.register(learn(name="churn", owner_id=BOB.id)).version == 1


def test_a_version_is_not_given_twice(models: Models, learn: Learn) -> None:
    models.delete(ALICE, models.register(learn(name="churn")).id, users=0)
    assert models.register(learn(name="churn")).version == 2


@pytest.mark.parametrize("name", ["", "  ", "x" * 201])
def test_a_name_that_is_none_is_refused(learn: Learn, name: str) -> None:
    with pytest.raises(InvalidRequest):
        learn(name=name)


# ----------------------------------------------------------------------------- lists
def test_models_are_sorted_and_those_without_accuracy_come_last(models: Models, learn: Learn) -> None:
    for name, accuracy in (("b", 0.5), ("A", None), ("c", 0.9)):
        models.register(learn(name=name, performance={"accuracy": accuracy}))
    assert names(models) == ["c", "A", "b"]
    assert names(models, ModelQuery(sort_by="accuracy")) == ["c", "b", "A"]
    assert names(models, ModelQuery(sort_by="name")) == ["A", "b", "c"]


def test_pages_fit_together(models: Models, learn: Learn) -> None:
    for number in range(5):
        models.register(learn(name=str(number), performance={"accuracy": 0.5}))
    query = ModelQuery(sort_by="accuracy")
    pages = [models.list_page(ALICE, query, limit=2, offset=offset) for offset in (0, 2, 4)]
    assert [model.name for page, _ in pages for model in page] == ["4", "3", "2", "1", "0"]
    assert {total for _, total in pages} == {5}


def test_a_search_finds_names_types_tasks_and_datasets(models: Models, learn: Learn) -> None:
    models.register(learn(name="Churn 50%", dataset_id="ds-1"))
    models.register(learn(name="prices", model_ref="resnet50", task="regression"))
    for text, found in (
        ("churn", ["Churn 50%"]),
        ("0%", ["Churn 50%"]),
        ("%", ["Churn 50%"]),
        ("ds-1", ["Churn 50%"]),
        ("ds-", []),
        ("RESNET", ["prices"]),
        ("regress", ["prices"]),
    ):
        assert names(models, ModelQuery(text=text)) == found, text
    assert names(models, ModelQuery(model_ref="mlp")) == ["Churn 50%"]
    assert names(models, ModelQuery(dataset_id="ds-1", task="regression")) == []


# ----------------------------------------------------------------------------- aliases
def test_an_alias_points_to_one_version_at_a_time(models: Models, learn: Learn) -> None:
    first, second = (models.register(learn(name="churn")) for _ in range(2))
    models.point(ALICE, first.id, "production")
    assert models.pointed(ALICE, "churn", "production") is first
    models.point(ALICE, second.id, "production")
    assert models.aliases_of([first, second]) == {first.id: [], second.id: ["production"]}
    assert models.list_page(ALICE, ModelQuery(family="churn", alias="production")) == ([second], 1)
    models.unpoint(ALICE, first.id, "production")  # it points elsewhere by now
    assert models.pointed(ALICE, "churn", "production") is second
    models.unpoint(ALICE, second.id, "production")
    with pytest.raises(ModelNotFound):
        models.pointed(ALICE, "churn", "production")


def test_an_alias_is_of_one_owner_and_one_name(models: Models, learn: Learn) -> None:
    model = models.register(learn(name="churn"))
    with pytest.raises(ModelNotFound):
        models.point(BOB, model.id, "production")
    models.point(ALICE, model.id, "production")
    for owner, family in ((BOB, "churn"), (ALICE, "other")):
        with pytest.raises(ModelNotFound):
            models.pointed(owner, family, "production")


def test_a_name_has_so_many_aliases_and_no_more(models: Models, learn: Learn) -> None:
    model = models.register(learn(name="churn"))
    for number in range(MOST_ALIASES):
        models.point(ALICE, model.id, f"a{number}")
    with pytest.raises(InvalidRequest):
        models.point(ALICE, model.id, "one-more")
    models.point(ALICE, model.id, "a0")


# ----------------------------------------------------------------------------- gone
def test_a_deleted_model_leaves_its_row_and_none_of_its_bytes(
    database: Database, blobs: Blobs, tmp_path: Path, learn: Learn
) -> None:
    with database.write() as session:
        model = Models(session, blobs, tmp_path).register(
            learn(onnx=b"graph", hub={"config.json": b"{}"}, lineage={"tc-1": 7})
        )
        Models(session, blobs, tmp_path).point(ALICE, model.id, "production")
    assert blobs_of(blobs) == 3
    with database.write() as session:
        Models(session, blobs, tmp_path).delete(ALICE, model.id, users=0)
    assert blobs_of(blobs) == 0
    with database.read() as session:
        kept = session.get_one(Model, model.id)
        assert (kept.lineage, kept.deleted_at is not None) == ({"tc-1": 7}, True)
        gone = Models(session, blobs, tmp_path)
        assert gone.list_page(ALICE) == ([], 0)
        for ask in (lambda: gone.get(ALICE, model.id), lambda: gone.pointed(ALICE, "MLP", "production")):
            with pytest.raises(ModelNotFound):
                ask()
        with pytest.raises(NotFound):
            gone.opened(kept)


def test_a_deletion_that_is_undone_loses_no_bytes(
    database: Database, blobs: Blobs, tmp_path: Path, learn: Learn
) -> None:
    learned = learn()
    with database.write() as session:
        model = Models(session, blobs, tmp_path).register(learned)

    def delete_and_fail() -> None:
        with database.write() as session:
            Models(session, blobs, tmp_path).delete(ALICE, model.id, users=0)
            raise StorageFull

    with pytest.raises(StorageFull):
        delete_and_fail()
    with database.read() as session:
        assert Models(session, blobs, tmp_path).opened(model)[0] == learned.weights


def test_a_served_model_is_not_deleted(models: Models, learn: Learn) -> None:
    model = models.register(learn())
    with pytest.raises(ModelInUse) as refused:
        models.delete(ALICE, model.id, users=2)
    assert refused.value.details == {"services": 2}
    assert models.get(ALICE, model.id) is model
