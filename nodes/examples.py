"""A photograph to begin with."""

from pathlib import Path

from comfy_api.latest import io, ui

from ..runflow_api.errors import InvalidInputError
from ._schema import schema

FOLDER = Path(__file__).resolve().parent.parent / "example_workflows" / "photos"
PHOTOS = (
    "coffee.jpg", "coffee_blurred.jpg", "chelsea.jpg", "chelsea_underexposed.jpg", "astronaut.jpg", "rocket.jpg",
)  # fmt: skip


class RunflowExamplePhoto(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RunflowExamplePhoto",
            display_name="Example Photo",
            description=(
                "A photograph that comes with the pack, to see a verdict before you have an image of your own. Two of "
                "them are spoiled on purpose."
            ),
            inputs=[io.Combo.Input("photo", options=list(PHOTOS), tooltip="Which photograph.")],
            outputs=[io.Image.Output("image", display_name="image")],
        )

    @classmethod
    def execute(cls, photo) -> io.NodeOutput:
        import numpy as np
        import torch
        from PIL import Image

        try:
            with Image.open(FOLDER / photo) as picture:
                pixels = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255.0
        except OSError as error:
            raise InvalidInputError("photo", f"cannot be read from the pack's folder: {error}") from error
        image = torch.from_numpy(pixels)[None]
        return io.NodeOutput(image, ui=ui.PreviewImage(image, cls=cls))
