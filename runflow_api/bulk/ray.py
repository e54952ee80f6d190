"""Judging on Ray: which machine does what is Ray's work, what is paid once is the journal's.

In a pipeline of your own::

    import ray
    from runflow_api.bulk.ray import RunflowJudge

    rows = ray.data.read_parquet("s3://bucket/manifest")
    judged = rows.map_batches(RunflowJudge, batch_format="pyarrow", batch_size=64, concurrency=4)

Settings and key are those of each machine, from its environment or its files: a key does not travel through Ray, whose
dashboard shows what does. Machines share what they know through the journal on PostgreSQL (``RUNFLOW_JOURNAL_URL``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import background, errors
from ..evaluation import lookup
from ..evaluation.evaluator import Evaluator
from ..evaluation.question import JudgeChoice, Options, Question
from ..evaluation.verdict import UNKNOWN, Policy, Subject, Verdict
from ..settings import config, locations
from ..settings.load_image import Decoder
from . import extras
from .manifest import BROKEN, Manifest, ManifestRow
from .question import RowReader
from .run import NO_LIMIT, BulkRun, Settings
from .verdicts import record_of, schema

BATCH = 64
ACTOR_CPUS = 0.1
"""An actor waits most of its time; Ray needs whole processors for reading and writing."""
BLOCK = 1_000
"""Rows that one actor gets at a time; each of its results is one file."""
ON_THIS_MACHINE = "local"
RESULTS = "verdicts"
"""The folder below the output: Ray names the files in it."""


class RunflowJudge:
    """Judges batches of rows; one evaluator in each actor.

    A batch is a ``pyarrow.Table`` with a column ``image`` and any of ``manifest.FIELDS``; what comes back has its
    columns and those of a part of ``bulk``. A column ``row`` of whole numbers is kept, to join the two; without one,
    the rows of each batch are counted. ``base`` is where relative paths begin. ``wait`` false submits and does not
    wait: ``RunflowCollect`` gets those verdicts. ``otherwise`` is a decoder that may have been paid for before, with
    the question as it reads the files of its references. A batch that an actor had begun when it died is given to
    another: nothing is lost, and nothing paid twice.
    """

    def __init__(
        self,
        *,
        judge: JudgeChoice = "auto",
        min_score: float = 0.0,
        question: Question | None = None,
        options: Options | None = None,
        decoder: Decoder = Decoder.PILLOW,
        otherwise: tuple[Decoder, Question] | None = None,
        base: str = ".",
        wait: bool = True,
        token: str = "ray",
        in_flight: int = BATCH,
        directory: str | None = None,
    ) -> None:
        self._evaluator = evaluator_of_this_machine(directory)
        manifest, options = Manifest.at(base), options or Options()
        self._asker = RowReader(manifest, question or Question(), options, decoder)
        if otherwise is not None:
            self._asker.otherwise = RowReader(manifest, otherwise[1], options, otherwise[0])
        self._settings = Settings(judge, Policy(min_score, "fail"), in_flight, wait=wait)
        self._token = token

    def __call__(self, batch: Any) -> Any:
        rows = _numbered(batch)
        work = BulkRun(self._evaluator, self._asker, self._settings, self._token)
        verdicts = background.start(work.judge_rows(rows)).result()
        if work.stopped is not None:
            raise work.stopped
        return _joined(batch, [record_of(row, verdict) for row, verdict in zip(rows, verdicts, strict=True) if verdict])


class RunflowCollect:
    """Gets the verdicts of what ``RunflowJudge`` has submitted, by their evaluation ids. Reading costs nothing."""

    def __init__(self, *, min_score: float = 0.0, timeout_s: int = 600, directory: str | None = None) -> None:
        self._evaluator = evaluator_of_this_machine(directory)
        self._policy = Policy(min_score, "fail")
        self._timeout_s = timeout_s

    def __call__(self, batch: Any) -> Any:
        records = batch.to_pylist()
        pending = [record for record in records if _is_pending(record)]
        ids = list(dict.fromkeys(record["evaluation_id"] for record in pending))
        found: dict[str, Verdict] = {}
        for start in range(0, len(ids), lookup.MAX_IDS):
            some = ids[start : start + lookup.MAX_IDS]
            reading = lookup.evaluations(self._evaluator, some, self._policy, timeout_s=self._timeout_s)
            found |= dict(zip(some, background.start(reading).result(), strict=True))
        return _joined(batch, [_collected(record, found) for record in records])


def _numbered(batch: Any) -> list[ManifestRow]:
    rows = []
    for number, values in enumerate(batch.to_pylist()):
        if values.get(BROKEN) is None:
            values.pop(BROKEN, None)
        given = values.pop("row", None)
        rows.append(ManifestRow(given if isinstance(given, int) else number, values))
    return rows


def _is_pending(record: Mapping[str, Any]) -> bool:
    return bool(record["evaluation_id"]) and record["verdict"] == str(UNKNOWN) and not record["code"]


def _collected(record: Mapping[str, Any], found: Mapping[str, Verdict]) -> dict[str, Any]:
    if not _is_pending(record):
        return {name: record[name] for name in _COLUMNS}
    subject = Subject(record["generation_prompt"] or "", record["pixel_hash"] or "")
    verdict = replace(found[record["evaluation_id"]], subject=subject, reused=record["reused"])
    return record_of(ManifestRow(record["row"], {"image": record["image"]}), verdict)


def _joined(batch: Any, records: Sequence[Mapping[str, Any]]) -> Any:
    """The columns of the batch that are not ours, and ours."""
    arrow = extras.load("pyarrow", "bulk")
    ours = arrow.Table.from_pylist(list(records), schema=schema(arrow))
    for name in batch.column_names:
        if name not in ours.column_names and name != BROKEN:
            ours = ours.append_column(batch.schema.field(name), batch.column(name))
    return ours


_COLUMNS = (
    "row", "image", "verdict", "passed", "score", "issues", "improved_prompt", "judge", "evaluation_id", "cost",
    "seconds", "reused", "code", "message", "generation_prompt", "pixel_hash", "judged_at",
)  # fmt: skip


def evaluator_of_this_machine(directory: str | None = None) -> Evaluator:
    """With the settings of the machine it runs on; ``directory`` is its private one, if that is not the usual."""
    settings = config.load(locations.settings_directory(None))
    settings = settings.model_copy(update={"max_evaluations_per_prompt": NO_LIMIT})
    return Evaluator(settings, Path(directory) if directory else locations.journal_directory(None))


# --- the whole manifest -------------------------------------------------------------------------------


def run(address: str, work: BulkRun, output: str, *, workers: int = 2) -> int:
    """Judge a whole manifest on the cluster at ``address`` (``local``: on this machine only); the number of rows.

    Two passes, which Ray lets overlap: submit, then collect. Raises ``ConfigurationError`` if the machines of a
    cluster would not share a journal.
    """
    ray = extras.load("ray", "ray")
    extras.load("ray.data", "ray")
    if address != ON_THIS_MACHINE and not work.evaluator.config.has_shared_journal:
        raise errors.ConfigurationError(
            "The machines of a cluster need one journal: without it each of them would pay for the same question.",
            code="JOURNAL_NOT_SHARED",
            cost="Nothing was sent and nothing was paid.",
            advice="Set RUNFLOW_JOURNAL_URL to a PostgreSQL that all of them reach.",
        )
    if not ray.is_initialized():
        ray.init(address=None if address == ON_THIS_MACHINE else address, include_dashboard=False)
    settings, reader = work.settings, work.reader
    other = reader.otherwise
    judging = {
        "judge": settings.judge, "min_score": settings.policy.min_score, "question": reader.question,
        "options": reader.options, "decoder": reader.decoder,
        "otherwise": other and (other.decoder, other.question), "base": work.manifest.base, "wait": False,
        "token": work.token,
    }  # fmt: skip
    collecting = {"min_score": settings.policy.min_score, "timeout_s": reader.options.timeout_s}
    rows = _dataset(ray, work.manifest)
    actors = {"batch_format": "pyarrow", "batch_size": BATCH, "concurrency": workers, "num_cpus": ACTOR_CPUS}
    judged = rows.map_batches(RunflowJudge, fn_constructor_kwargs=judging, **actors)
    collected = judged.map_batches(RunflowCollect, fn_constructor_kwargs=collecting, **actors)
    place = f"{output.rstrip('/')}/{RESULTS}"
    files, inside = extras.filesystem(place)
    if files.exists(inside):
        files.rm(inside, recursive=True)
    collected.write_parquet(place)
    return int(ray.data.read_parquet(place).count())


def _dataset(ray: Any, manifest: Manifest) -> Any:
    """The rows with their numbers, in which ``bulk`` on one machine would have them. One task reads one file."""
    files = [{"address": address, "first": first} for address, first in manifest.numbered_files()]
    rows = ray.data.from_items(files, override_num_blocks=len(files)).map_batches(_read, batch_size=1)
    return rows.repartition(target_num_rows_per_block=BLOCK)


def _read(file: Mapping[str, Any]) -> Iterator[Any]:
    """The rows of one file, as tables."""
    arrow = extras.load("pyarrow", "bulk")
    rows = Manifest(str(file["address"][0])).rows()
    first = int(file["first"][0])
    while some := list(itertools.islice(rows, BLOCK)):
        names = dict.fromkeys([BROKEN, *(name for row in some for name in row.values)])
        columns = {name: [row.values.get(name) for row in some] for name in names}
        columns["row"] = [first + row.number for row in some]
        broken = arrow.array(columns.pop(BROKEN), arrow.string())
        yield arrow.table({**columns, BROKEN: broken})
