"""The journal's schema, as numbered steps that only ever go forward.

A step describes its tables by itself and is never changed once released: what ``journal.py`` uses today is
written there, and a test compares it with what the steps build. Every table has the prefix ``runflow_``,
because a journal given by URL may share its database with others.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

Migration = Callable[[sa.Connection], None]
VERSION_TABLE = "runflow_schema_version"
SALT_BYTES = 32

BINARY = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
"""MySQL's plain BLOB ends at 64 KiB."""
TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")


class NewerSchemaError(Exception):
    """The journal was written by a newer version of the pack; ``found`` is its schema."""

    def __init__(self, found: int, known: int) -> None:
        super().__init__(f"schema {found}, known up to {known}")
        self.found, self.known = found, known


def _first(connection: sa.Connection) -> None:
    """Evaluations, their answers, who asked for them, which account a key belongs to, the salt of key hashes."""
    schema = sa.MetaData()
    sa.Table(
        "runflow_evaluations",
        schema,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("account", sa.String(255), nullable=False),
        sa.Column("request_hash", sa.String(128), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("idempotency_key", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("evaluation_id", sa.String(255)),
        sa.Column("org_id", sa.String(255)),
        sa.Column("prompt_token", sa.String(255), nullable=False),
        sa.Column("job_class", sa.String(255), nullable=False),
        sa.Column("pixel_hash", sa.String(128), nullable=False),
        sa.Column("generation_prompt", TEXT, nullable=False),
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("submitted_at", sa.Double),
        sa.Column("finished_at", sa.Double),
        sa.Column("duration_s", sa.Double),
        sa.Column("price", sa.String(48)),
        sa.Column("cost", sa.String(48)),
        sa.Column("passed", sa.Boolean),
        sa.Column("score", sa.Double),
        sa.Column("failure_code", sa.String(255)),
        sa.Column("spool", sa.String(255)),
        sa.UniqueConstraint("account", "request_hash", "generation", name="runflow_evaluations_generation"),
        sa.Index("runflow_evaluations_evaluation_id", "evaluation_id"),
        sa.Index("runflow_evaluations_prompt", "prompt_token", "state"),
        sa.Index("runflow_evaluations_day", "day", "state", "passed", "cost", "price"),
        sa.Index("runflow_evaluations_outcome", "state", "passed", "id"),
        sa.Index("runflow_evaluations_job_class", "job_class", "id"),
        sqlite_autoincrement=True,
    )
    sa.Table(
        "runflow_answers",
        schema,
        sa.Column("row_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("packed", BINARY, nullable=False),
    )
    sa.Table(
        "runflow_prompts",
        schema,
        sa.Column("row_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("prompt_token", sa.String(255), primary_key=True),
    )
    sa.Table(
        "runflow_accounts",
        schema,
        sa.Column("provisional", sa.String(255), primary_key=True),
        sa.Column("account", sa.String(255), nullable=False),
    )
    settings = sa.Table(
        "runflow_settings",
        schema,
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.String(255), nullable=False),
    )
    schema.create_all(connection)
    connection.execute(settings.insert().values(name="salt", value=secrets.token_hex(SALT_BYTES)))


def _fleet(connection: sa.Connection) -> None:
    """For many machines on one database: bodies under way, the pace that all of them keep, and what was used up."""
    schema = sa.MetaData()
    sa.Table(
        "runflow_bodies",
        schema,
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("body", BINARY, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Index("runflow_bodies_created_at", "created_at"),
    )
    sa.Table(
        "runflow_pace",
        schema,
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("rate", sa.Double),
        sa.Column("ceiling", sa.Double),
        sa.Column("next_at", sa.Double, nullable=False),
        sa.Column("paused_until", sa.Double, nullable=False),
        sa.Column("changed_at", sa.Double, nullable=False),
    )
    sa.Table(
        "runflow_tallies",
        schema,
        sa.Column("name", sa.String(300), primary_key=True),
        sa.Column("evaluations", sa.Integer, nullable=False),
        sa.Column("unpriced", sa.Integer, nullable=False),
        sa.Column("credits", sa.String(64), nullable=False),
    )
    schema.create_all(connection)
    if connection.dialect.name == "postgresql":
        # A body is an encoded image: an attempt to compress it takes time and gains nothing.
        connection.exec_driver_sql("ALTER TABLE runflow_bodies ALTER COLUMN body SET STORAGE EXTERNAL")


MIGRATIONS: tuple[Migration, ...] = (_first, _fleet)
"""Step n brings schema n - 1 to schema n; schema 0 is an empty database."""


def schema_version(connection: sa.Connection) -> int:
    """The schema of an open journal, 0 if there is none yet."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return 0
    return connection.scalar(sa.text(f"SELECT MAX(version) FROM {VERSION_TABLE}")) or 0


def require_known(connection: sa.Connection, migrations: Sequence[Migration] = MIGRATIONS) -> int:
    """The schema, or ``NewerSchemaError``: a newer pack's rows must not be misread, nor written over."""
    found = schema_version(connection)
    if found > len(migrations):
        raise NewerSchemaError(found, len(migrations))
    return found


def migrate(connection: sa.Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring the schema to the last step, in the caller's transaction, which must exclude other writers."""
    found = require_known(connection, migrations)
    versions = sa.Table(VERSION_TABLE, sa.MetaData(), sa.Column("version", sa.Integer, primary_key=True))
    if found == 0:
        versions.create(connection, checkfirst=True)
    for number, migration in enumerate(migrations[found:], start=found + 1):
        migration(connection)
        connection.execute(versions.insert().values(version=number))
