"""A database of an older version: what it says must be said as well after it was brought up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlmodel import SQLModel

from tg_workbench import app  # noqa: F401  (imports every room, and so every table)
from tg_workbench.datasets import Kind, Ledger
from tg_workbench.federation.fleets import tables as fleet_tables  # noqa: F401
from tg_workbench.federation.rounds import Campaign
from tg_workbench.storage import Database
from tg_workbench.storage.database import MIGRATIONS

EVENT = (
    "INSERT INTO ledger_events (dataset_id, client_id, tenant_id, actor, operation_id, attempt, ordinal, "
    "mode, noise_multiplier, sample_rate, max_grad_norm, step, epsilon_after, at) "
    "VALUES ('ds-1', 'tc-1', 'us', 'me', 'fut-1', 0, {0}, 'sampled', 1.5, 0.1, 1.0, {0}, 0.5, 0.0)"
)


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Database]:
    """A database of revision 0003 in which three steps were charged."""
    opened = Database(f"sqlite:///{tmp_path}/old.db")
    opened.migrate("0003")
    with sqlite3.connect(tmp_path / "old.db") as connection:
        for ordinal in range(3):
            connection.execute(EVENT.format(ordinal))
        for subject in ("tc-1", "ds-1"):
            connection.execute("INSERT INTO ledger_counts VALUES (?, 1.5, 0.1, 3)", (subject,))
    yield opened
    opened.close()


def test_what_was_spent_before_is_spent_after(old: Database) -> None:
    old.migrate()
    with old.read() as session:
        ledger = Ledger(session)
        assert ledger.of_subject("ds-1") == ledger.of_subject("tc-1") == {Kind(1.5, 0.1): 3}
        assert ledger.of_lineage({"tc-1": 2}, without="") == {Kind(1.5, 0.1): 2}
        assert list(ledger.participations("tc-1")) == []


def test_it_has_the_columns_that_the_tables_have(old: Database) -> None:
    old.migrate()
    found = sa.inspect(old.engine)
    for table in SQLModel.metadata.sorted_tables:
        assert {column["name"] for column in found.get_columns(table.name)} == set(table.columns.keys())
        keys = found.get_pk_constraint(table.name)["constrained_columns"]
        assert set(keys) == {column.name for column in table.primary_key}


def test_an_older_version_gets_back_what_it_can_count_and_no_less(old: Database) -> None:
    old.migrate()
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with old.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0003")
        connection.commit()
        assert connection.execute(sa.text("SELECT count FROM ledger_counts")).scalars().all() == [3, 3]
        command.upgrade(config, "head")
        connection.execute(sa.text("UPDATE ledger_events SET participants = x'00'"))
        connection.commit()
        with pytest.raises(RuntimeError, match="cannot count"):
            command.downgrade(config, "0003")


def test_what_was_accepted_before_counted_in_its_own_round(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/rounds.db")
    database.migrate("0022")
    options = '{"strategy": "fedbuff", "strategy_options": {"buffer_size": 3, "server_learning_rate": 0.5}}'
    with sqlite3.connect(tmp_path / "rounds.db") as connection:
        connection.execute(
            "INSERT INTO campaigns (id, owner_id, tenant_id, name, spec, status, rounds_done, model_version, "
            "created_at) VALUES ('camp_1', 'me', 'us', 'one', ?, 'active', 0, 0, 0.0)",
            (options,),
        )
        connection.execute(
            "INSERT INTO rounds (id, campaign_id, tenant_id, number, phase, base_version, figures, "
            "created_at) VALUES ('round_1', 'camp_1', 'us', 1, 'training', 0, '{}', 0.0)"
        )
        for device, status in (("dev_1", "accepted"), ("dev_2", "rejected")):
            connection.execute(
                "INSERT INTO participations (round_id, device_id, status, joined_at) "
                "VALUES ('round_1', ?, ?, 0)",
                (device, status),
            )
    database.migrate()
    with database.read() as session:
        counted = session.connection().execute(sa.text("SELECT device_id, counted_in FROM participations"))
        assert dict(tuple(row) for row in counted) == {"dev_1": "round_1", "dev_2": None}
        campaign = session.get_one(Campaign, "camp_1")
        assert campaign.spec["strategy_options"] == {"server_learning_rate": 0.5}
    database.close()
