"""The journal's schema, as numbered steps that only ever go forward.

A step describes its tables by itself and is never changed once released: what ``journal.py`` uses today is
written there, and a test compares it with what the steps build. Every table has the prefix ``runflow_``,
because a journal given by URL may share its database with others.
"""

from __future__ import annotations

import json
import secrets
import zlib
from collections.abc import Callable, Sequence
from typing import Any

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


def _verdicts(connection: sa.Connection) -> None:
    """What was said about each image, what made it, and whether the person finds it good."""
    schema = sa.MetaData()
    verdicts = sa.Table(
        "runflow_verdicts",
        schema,
        sa.Column("row_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("is_final", sa.Boolean, nullable=False),
        sa.Column("judge", sa.String(16), nullable=False),
        sa.Column("judge_name", sa.String(255), nullable=False),
        sa.Column("task", sa.String(100), nullable=False),
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("passed", sa.Boolean),
        sa.Column("score", sa.Double),
        sa.Column("amount", sa.String(48)),
        sa.Column("is_good", sa.Boolean),
        sa.Column("subject", sa.String(64)),
        sa.Column("checkpoint", sa.String(255)),
        sa.Column("loras", sa.Text),
        sa.Column("sampler", sa.String(255)),
        sa.Column("scheduler", sa.String(255)),
        sa.Column("steps", sa.Integer),
        sa.Column("cfg", sa.Double),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("seed", sa.String(20)),
        sa.Index("runflow_verdicts_subject", "subject", "is_good"),
        sa.Index(
            "runflow_verdicts_rated", "is_good", "judge", "judge_name", "task", "passed", "score", "is_final", "day"
        ),
        sa.Index(
            "runflow_verdicts_checkpoint", "checkpoint", "amount", "judge", "is_final", "passed", "score", "day", "task"
        ),
        sa.Index("runflow_verdicts_days", "day", "judge", "is_final", "passed", "score", "amount"),
    )
    sa.Table(
        "runflow_image_prompts",
        schema,
        sa.Column("row_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("prompt", TEXT, nullable=False),
    )
    schema.create_all(connection)
    _describe_what_is_there(connection, verdicts)


def _describe_what_is_there(connection: sa.Connection, verdicts: sa.Table) -> None:
    """Rows from before: what made their images was not kept, thumbs and persons' verdicts were."""
    texts = ("id", "account", "state", "cost", "price", "passed", "score", "day")
    rows = sa.table("runflow_evaluations", *(sa.column(name) for name in texts))
    answers = sa.table("runflow_answers", sa.column("row_id"), sa.column("packed"))
    wanted = sa.select(rows, answers.c.packed).join(answers, answers.c.row_id == rows.c.id, isouter=True)
    last = 0
    while found := connection.execute(wanted.where(rows.c.id > last).order_by(rows.c.id).limit(1_000)).all():
        last = found[-1].id
        connection.execute(verdicts.insert(), [_described(row) for row in found])


def _described(row: sa.Row[Any]) -> dict[str, Any]:
    account = row.account if isinstance(row.account, str) else ""
    judge = account.removeprefix("free:")[:16] if account.startswith("free:") else "runflow"
    passed = bool(row.passed) if row.passed in (0, 1) and row.state == "completed" else None
    answer = _unpacked(row.packed)
    thumb, task, name = (answer.get(key) for key in ("feedback_is_positive", "task_type", "judged_by"))
    is_good = passed if judge == "person" else None
    if isinstance(thumb, bool) and passed is not None:
        is_good = passed is thumb
    amount = row.cost if row.cost is not None else row.price
    return {
        "row_id": row.id,
        "is_final": row.state in ("completed", "failed"),
        "judge": judge,
        "judge_name": name[:255] if judge == "model" and isinstance(name, str) else "",
        "task": task[:100] if isinstance(task, str) else "",
        "day": row.day if isinstance(row.day, int) else 0,
        "passed": passed,
        "score": row.score if isinstance(row.score, float) and row.state == "completed" else None,
        "amount": amount if isinstance(amount, str) else None,
        "is_good": is_good,
    }


def _unpacked(packed: Any) -> dict[str, Any]:
    """An answer as version 1 packs it; a damaged one says nothing."""
    try:
        answer = json.loads(zlib.decompress(packed))
    except (zlib.error, ValueError, TypeError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


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


MIGRATIONS: tuple[Migration, ...] = (_first, _verdicts, _fleet)
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
