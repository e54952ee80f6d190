"""What is submitted for an image: its pixels and those of the references as addresses, and the body around them."""

from __future__ import annotations

import asyncio
import logging
import threading

from .. import errors, images
from ..api.client import RunflowClient, encode_request
from ..api.transport import Deadline
from ..background import Workers
from ..images import EncodedImage, Picture
from .bookkeeping import Bookkeeper
from .job import Batch, BatchItem
from .question import ImageUrl, Reference, Upload, build_request

ENCODERS = 2
"""A lossless WebP takes nine times the memory of its pixels while it is made. Two at a time are faster than 400 Mbit/s
of upload, so more would only take memory."""
REFERENCES_KEPT = 8
"""References used again are encoded and uploaded once; a data URI may have 12 MB."""
UPLOAD_REFUSED = (errors.PermissionDeniedError, errors.NotFoundError, errors.ValidationError)

log = logging.getLogger("runflow_evaluate")


class Bodies:
    """Makes the bodies of all batches of one evaluator. ``network`` bounds the uploads."""

    def __init__(self, client: RunflowClient, bookkeeper: Bookkeeper, network: Workers) -> None:
        self._client = client
        self._bookkeeper = bookkeeper
        self._network = network
        self._encoders = threading.Semaphore(ENCODERS)
        self._placing = asyncio.Lock()
        self._placed: dict[tuple[str, Upload], tuple[str, str]] = {}

    def body(self, item: BatchItem, reference_urls: list[str]) -> bytes | None:
        """The bytes that must be sent: those fixed first, by whichever process that was. Blocks.

        ``None`` if they are elsewhere: whoever has them gets the id. If an upload is the second try, and is
        refused, the refusal of the first (``too_large``) is raised.
        """
        fixed = None if item.row.is_new else self._bookkeeper.body(item.row)
        if fixed is not None:
            return fixed
        job = item.batch.job
        if isinstance(item.image, ImageUrl):
            url = item.image.url
        else:
            try:
                url, note = self._place(item.image, item.upload, item.batch.deadline)
            except errors.ApiError as error:
                raise item.too_large or error from error.__cause__
            item.notes += [note] if note else []
        body = encode_request(build_request(url, reference_urls, job.question, job.options))
        return self._bookkeeper.fix_body(item.row, body)

    def _place(self, picture: Picture, upload: Upload, deadline: Deadline) -> tuple[str, str]:
        """An address for the image, and what was lost on the way to it.

        A lossless data URI, otherwise an asset, otherwise a lossy data URI.
        """
        with self._encoders:
            encoded = images.encode_lossless(picture.pixels)
        if upload != "asset" and encoded.fits_data_uri:
            return images.data_uri(encoded), ""
        why = ""
        if upload != "data_uri" and len(encoded.data) <= images.MAX_ASSET_BYTES:
            try:
                return self._client.upload_asset(encoded, deadline=deadline), ""
            except errors.RunflowError as error:
                if upload == "asset" or not _is_refused(error):
                    raise
                log.info("The image upload was refused; a lossy data URI is sent. %s", error)
                why = f", and its upload was refused: {error}"
        lossy: EncodedImage = images.encode_lossy(picture.pixels)
        return images.data_uri(lossy), f"{lossy.loss}{why}"

    async def reference_urls(self, item: BatchItem) -> list[str]:
        """The references' addresses, made once for the whole batch."""
        batch, references = item.batch, item.batch.job.question.references
        if all(reference.pixels is None for reference in references):
            return [reference.url for reference in references]
        if item.upload not in batch.reference_urls:
            batch.reference_urls[item.upload] = asyncio.create_task(self._place_references(batch, item.upload))
        try:
            return await asyncio.shield(batch.reference_urls[item.upload])
        except errors.ApiError as error:
            raise item.too_large or error from error.__cause__

    async def _place_references(self, batch: Batch, upload: Upload) -> list[str]:
        """One job after the other: what another has just encoded or uploaded is taken from there."""
        async with self._placing:
            placing = [self._place_reference(batch, each, upload) for each in batch.job.question.references]
            return list(await asyncio.gather(*placing))

    async def _place_reference(self, batch: Batch, reference: Reference, upload: Upload) -> str:
        if reference.picture is None:
            return reference.url
        key = reference.picture.hash, upload  # hashed already, when the job was prepared
        if key not in self._placed:
            placed = await self._network.run(self._place, reference.picture, upload, batch.deadline)
            while len(self._placed) >= REFERENCES_KEPT:
                del self._placed[next(iter(self._placed))]
            self._placed[key] = placed
        url, note = self._placed[key]
        batch.notes += [f"reference: {note}"] if note else []
        return url


def _is_refused(error: errors.RunflowError) -> bool:
    """Whether it is the upload that cannot be had, so that another way is tried."""
    return isinstance(error, UPLOAD_REFUSED) or error.code == "UPLOAD_ADDRESS_REFUSED"
