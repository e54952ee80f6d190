"""From an image to an evaluation at Runflow: encode, spool, send, and note the id."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from .. import errors, images
from ..api.client import RunflowClient, encode_request
from ..api.models import Evaluation
from ..api.transport import never_arrived
from ..background import Workers
from ..errors import RunflowError
from ..journal.journal import OPEN, Row
from . import polling
from .bookkeeping import Bookkeeper
from .failures import MAYBE_ACCEPTED, NEVER_ARRIVED, OUTAGES, id_unknown, not_accepted, too_old_to_resend
from .job import BatchItem, Job
from .question import ImageUrl, Reference, Upload, build_request
from .waiting import Progress, with_deadline

OWNER_POLL_S = 1.0
OWNER_WITHIN_S = 180.0
"""So long after a request was begun its owner may take to note the id: five attempts of half a minute, and pauses."""
OWNER_AT_LEAST_S = 10.0
"""So long the id of an older request is looked for: its owner may just be sending it again."""
RESEND_WITHIN_S = 23 * 3600.0
"""An idempotency key is trusted for less than a day; after that a resend might be billed again."""
ENCODERS = 2
"""A lossless WebP takes nine times the memory of its pixels while it is made. Two at a time are faster than 400 Mbit/s
of upload, so more would only take memory."""
REFERENCES_KEPT = 8
"""References used again are encoded and uploaded once; a data URI may have 12 MB."""

log = logging.getLogger("runflow_evaluate")


@dataclass(eq=False)
class Batch:
    """What the members of one job share."""

    job: Job
    progress: Progress
    expected: polling.Window | None = None
    reference_urls: asyncio.Task[list[str]] | None = None
    fatal: RunflowError | None = None


class Submitter:
    """Submits the images of all batches of one evaluator. ``now`` is Unix time.

    ``network`` bounds the requests to Runflow. A quarter of its slots is left to those that look whether evaluations
    have ended: a large batch would keep its first verdicts waiting until its last image is sent.
    """

    def __init__(
        self,
        client: RunflowClient,
        bookkeeper: Bookkeeper,
        network: Workers,
        processor: Workers,
        now: Callable[[], float],
    ) -> None:
        self._client = client
        self._bookkeeper = bookkeeper
        self._network = network
        self._processor = processor
        self._now = now
        slots = client.config.concurrency
        self._sending = asyncio.Semaphore(slots - slots // 4)
        self._encoders = threading.Semaphore(ENCODERS)
        self._submitting: Counter[int] = Counter()
        self._placing = asyncio.Lock()
        self._placed: dict[tuple[str, str], tuple[str, list[str]]] = {}

    async def submit(self, batch: Batch, item: BatchItem, row: Row) -> Evaluation:
        """The pending evaluation of ``row``, which has no id yet. Raises what stands in its way."""
        if row.spooled and (age := self._now() - row.created_at) > RESEND_WITHIN_S:
            await self._processor.run(lambda: self._bookkeeper.abandon(row))
            raise too_old_to_resend(age)
        spooled = await self._processor.run(lambda: self._spooled(row))
        reference_urls: list[str] = []
        if not spooled:
            reference_urls = await with_deadline(item.deadline, self._reference_urls(batch, item), NEVER_ARRIVED)
        self._submitting[row.id] += 1
        try:
            evaluation = await with_deadline(
                item.deadline, self._send(batch, item, row, reference_urls), MAYBE_ACCEPTED
            )
        finally:
            self._submitting[row.id] -= 1
        return evaluation or await self._id_from_owner(batch, item, row)

    async def _send(self, batch: Batch, item: BatchItem, row: Row, reference_urls: list[str]) -> Evaluation | None:
        async with self._sending:
            return await self._network.run(lambda: self._send_in_thread(batch, item, row, reference_urls))

    def _send_in_thread(self, batch: Batch, item: BatchItem, row: Row, reference_urls: list[str]) -> Evaluation | None:
        """Encode, spool, send, and note the id, all in one thread, so that no cancel comes in between.

        Returns ``None`` where the body is elsewhere: whoever has it gets the id.
        """
        if batch.fatal is not None:
            raise batch.fatal
        if item.deadline.cancelled.is_set():
            raise errors.Cancelled
        body = self._body(batch, item, row, reference_urls)
        if body is None:
            return None
        try:
            evaluation = self._post(item, row, body)
        except OUTAGES as error:
            error.message += NEVER_ARRIVED if row.is_new and never_arrived(error) else MAYBE_ACCEPTED
            raise
        except errors.ApiError as error:
            raise self._refused(row, error) from error
        self._bookkeeper.record_submission(row, evaluation)
        return evaluation

    def _post(self, item: BatchItem, row: Row, body: bytes) -> Evaluation:
        """Submit; a conflict on a first send is final, unless somebody else is sending the same."""
        post = functools.partial(self._client.submit, body, idempotency_key=row.idempotency_key, deadline=item.deadline)
        try:
            return post(may_have_arrived=not row.is_new)
        except errors.ConflictError as error:
            if error.may_have_been_accepted or not self._is_shared(row):
                raise
            return post(may_have_arrived=True)

    def _is_shared(self, row: Row) -> bool:
        """Whether another prompt or process, or another node of this one, has asked for the same row."""
        return self._submitting[row.id] > 1 or self._bookkeeper.is_shared(row)

    def _refused(self, row: Row, error: errors.ApiError) -> RunflowError:
        """What a refusal means for money: the row is closed only where nothing that was sent can have been taken."""
        if error.may_have_been_accepted:
            error.message += MAYBE_ACCEPTED
            return error
        error.message += " Nothing was paid."
        self._bookkeeper.record_refusal(row, error.code)
        if isinstance(error, errors.NotFoundError):
            return errors.ConfigurationError(
                f"{error.message} There is no evaluation API at {self._client.config.base_url}: check "
                "RUNFLOW_BASE_URL.",
                code=error.code,
            )
        return error

    async def _id_from_owner(self, batch: Batch, item: BatchItem, row: Row) -> Evaluation:
        """The id that whoever fixed the body notes; what nobody can be expected to note is not waited for."""
        age = max(0.0, self._now() - row.created_at)
        ends = time.monotonic() + min(max(OWNER_AT_LEAST_S, OWNER_WITHIN_S - age), item.deadline.remaining)
        while True:
            current = await self._processor.run(lambda: self._bookkeeper.current(row))
            if current.evaluation_id:
                return Evaluation(id=current.evaluation_id)
            if current.state != OPEN:
                raise not_accepted(current)
            if (left := ends - time.monotonic()) <= 0:
                raise id_unknown()
            await asyncio.sleep(min(OWNER_POLL_S, left))

    # --- what is sent -----------------------------------------------------------------------------

    def _body(self, batch: Batch, item: BatchItem, row: Row, reference_urls: list[str]) -> bytes | None:
        """The bytes that must be sent: those spooled first, by whichever process that was."""
        spooled = self._spooled(row)
        if spooled is not None:
            return spooled
        job = batch.job
        url = self._image_url(job, item)
        mine = encode_request(build_request(url, reference_urls, job.question, job.options))
        return self._bookkeeper.fix_body(row, mine)

    def _spooled(self, row: Row) -> bytes | None:
        return None if row.is_new else self._bookkeeper.body(row)

    def _image_url(self, job: Job, item: BatchItem) -> str:
        if isinstance(item.image, ImageUrl):
            return item.image.url
        return self._place(images.to_pixels(item.image), job.options.upload, item)

    def _place(self, pixels: images.PixelImage, upload: Upload, item: BatchItem) -> str:
        """An address for the image: a lossless data URI, else an asset, else a lossy data URI that is told."""
        with self._encoders:
            encoded = images.encode_lossless(pixels)
        if upload != "asset" and encoded.fits_data_uri:
            return images.data_uri(encoded)
        if upload != "data_uri" and len(encoded.data) <= images.MAX_ASSET_BYTES:
            try:
                return self._client.upload_asset(encoded, deadline=item.deadline)
            except (errors.PermissionDeniedError, errors.NotFoundError, errors.ValidationError) as error:
                if upload == "asset":
                    raise
                log.info("The image upload was refused (%s); a lossy data URI is sent.", error.code)
        encoded = images.encode_lossy(pixels)
        item.notes.append(encoded.loss)
        return images.data_uri(encoded)

    # --- references -------------------------------------------------------------------------------

    async def _reference_urls(self, batch: Batch, item: BatchItem) -> list[str]:
        """The references' addresses, made once for the whole batch."""
        if not batch.job.question.references:
            return []
        if batch.reference_urls is None:
            batch.reference_urls = asyncio.create_task(self._place_references(batch, item))
        return await asyncio.shield(batch.reference_urls)

    async def _place_references(self, batch: Batch, item: BatchItem) -> list[str]:
        """One after the other: what another job has just encoded or uploaded is taken from there."""
        if all(reference.pixels is None for reference in batch.job.question.references):
            return [reference.url for reference in batch.job.question.references]
        async with self._placing:
            return [await self._place_reference(batch, item, each) for each in batch.job.question.references]

    async def _place_reference(self, batch: Batch, item: BatchItem, reference: Reference) -> str:
        if reference.pixels is None:
            return reference.url
        pixels, upload = images.to_pixels(reference.pixels), batch.job.options.upload
        key = await self._processor.run(lambda: (images.pixel_hash(pixels), upload))
        if key not in self._placed:
            before = len(item.notes)
            url = await self._network.run(lambda: self._place(pixels, upload, item))
            while len(self._placed) >= REFERENCES_KEPT:
                del self._placed[next(iter(self._placed))]
            self._placed[key] = url, item.notes[before:]
        else:
            item.notes += self._placed[key][1]
        return self._placed[key][0]
