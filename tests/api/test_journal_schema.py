"""The schema only ever goes forward, and a journal of every version opens."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from support.journals import KEY, ask, begin

from runflow_api.journal import migrations, schema
from runflow_api.journal import store as journal_store
from runflow_api.journal.journal import Journal, JournalError

# --- schema ---------------------------------------------------------------------------------------


def journal_after(file: Path, steps: tuple[migrations.Migration, ...]) -> None:
    engine = sa.create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        migrations.migrate(connection, steps)
    engine.dispose()


@pytest.mark.parametrize("version", range(len(migrations.MIGRATIONS) + 1))
def test_a_journal_of_every_older_schema_opens_with_its_rows(tmp_path: Path, version: int) -> None:
    file = tmp_path / "journal.sqlite3"
    if version:
        journal_after(file, migrations.MIGRATIONS[:version])
        with closing(sqlite3.connect(file)) as old:
            old.executescript(ROWS_OF_SCHEMA_1)
    with Journal.open(None, tmp_path) as book:
        assert [row.request_hash for row in book.history()] == (["old"] if version else [])
        (row,) = begin(book, ask("old"))
        assert row.is_new == (version == 0)
        assert book.account(KEY, None).startswith("key:")


ROWS_OF_SCHEMA_1 = """
INSERT INTO runflow_evaluations (account, request_hash, generation, idempotency_key, state, evaluation_id,
    prompt_token, job_class, pixel_hash, generation_prompt, day, created_at, price, cost, passed, score)
VALUES ('org:1', 'old', 0, 'key', 'completed', 'ev-1',
    'p0', 'standard', '', 'a fox', 20000, 1728000000.0, '0.5', '0.5', 1, 0.9);
"""


def test_the_tables_in_use_are_those_the_migrations_make(tmp_path: Path) -> None:
    Journal.open(None, tmp_path).close()
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'journal.sqlite3'}")
    made = sa.MetaData()
    made.reflect(engine)
    engine.dispose()
    used = {table.name: set(table.columns.keys()) for table in schema.SCHEMA.sorted_tables}
    found = {table.name: set(table.columns.keys()) for table in made.sorted_tables}
    assert found.pop(migrations.VERSION_TABLE) == {"version"} and found.pop("sqlite_sequence", None) is None
    assert used == found


def test_a_later_migration_runs_once_and_keeps_the_rows(tmp_path: Path) -> None:
    def add_note(connection: sa.Connection) -> None:
        connection.execute(sa.text("ALTER TABLE runflow_evaluations ADD COLUMN note TEXT"))

    with Journal.open(None, tmp_path) as book:
        begin(book)
    file = tmp_path / "journal.sqlite3"
    for _ in range(2):
        journal_after(file, (*migrations.MIGRATIONS, add_note))
    with closing(sqlite3.connect(file)) as now:
        assert now.execute("SELECT note FROM runflow_evaluations").fetchall() == [(None,)]
        versions = [number for (number,) in now.execute("SELECT version FROM runflow_schema_version ORDER BY 1")]
    assert versions == [*range(1, len(migrations.MIGRATIONS) + 2)]


def test_a_migration_that_fails_leaves_the_schema_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(connection: sa.Connection) -> None:
        connection.execute(sa.text("CREATE TABLE runflow_half (x INTEGER)"))
        raise OSError("power")

    with Journal.open(None, tmp_path) as book:
        begin(book)
    steps = (*migrations.MIGRATIONS, breaks)
    monkeypatch.setattr(journal_store, "MIGRATIONS", steps)
    monkeypatch.setattr(journal_store, "migrate", lambda connection: migrations.migrate(connection, steps))
    with pytest.raises(JournalError):
        Journal.open(None, tmp_path)
    monkeypatch.undo()
    with Journal.open(None, tmp_path) as book:
        assert len(book.history()) == 1
    with closing(sqlite3.connect(tmp_path / "journal.sqlite3")) as now:
        assert now.execute("SELECT name FROM sqlite_master WHERE name = 'runflow_half'").fetchall() == []


def test_a_newer_schema_is_refused_and_left_untouched(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite3"
    Journal.open(None, tmp_path).close()
    (tmp_path / "spool").rmdir()
    with closing(sqlite3.connect(file)) as newer:
        newer.execute("INSERT INTO runflow_schema_version VALUES (99)")
        newer.commit()
    before = file.read_bytes()
    with pytest.raises(JournalError, match=r"newer version of this pack \(schema 99, known here \d+\). Update"):
        Journal.open(None, tmp_path)
    assert file.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["journal.sqlite3"]
