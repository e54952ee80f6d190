"""Pictures to compare with."""

from comfy_api.latest import io

from ..runflow_api.errors import InvalidInputError
from ..runflow_api.evaluation.question import Reference
from . import _image_batch
from ._schema import ReferencesType, schema


class RunflowReferenceImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RunflowReferenceImage",
            display_name="Reference Image",
            description=(
                "A picture that the judge compares with, such as the person or the garment that must be recognised. "
                "Connect an image, or give a URL; a batch of n images counts as n references, and 4 are allowed in "
                "total."
            ),
            inputs=[
                io.Image.Input("image", optional=True, tooltip="The reference itself; or give a URL."),
                io.String.Input(
                    "url",
                    optional=True,
                    default="",
                    tooltip="https://… or runflow://assets/…, passed on to Runflow; this machine never fetches it.",
                ),
                io.String.Input(
                    "kind",
                    optional=True,
                    default="identity",
                    tooltip="What it shows, such as identity or garment.",
                ),
                io.String.Input(
                    "description", optional=True, default="", tooltip="What matters in it, in your own words."
                ),
                ReferencesType.Input(
                    "references", optional=True, tooltip="Other references, to which this one is added."
                ),
            ],
            outputs=[ReferencesType.Output("reference_set", display_name="references")],
        )

    @classmethod
    def execute(cls, image=None, url="", kind="identity", description="", references=()) -> io.NodeOutput:
        url = url.strip()
        if (image is None) == (not url):
            raise InvalidInputError("references", "give an image or a URL to Reference Image, one of the two.")
        if image is None:
            added = [Reference(url=url, kind=kind, description=description)]
        else:
            pictures = _image_batch.arrays(_image_batch.check_images("image", image))
            added = [Reference(pixels=pixels, kind=kind, description=description) for pixels in pictures]
        return io.NodeOutput((*(references or ()), *added))
