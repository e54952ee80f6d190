"""Test nodes: one that blocks ComfyUI's thread as a sampler does, and one that raises after a while."""

import asyncio
import time

from comfy_api.latest import ComfyExtension, io


class TestSlowSampler(io.ComfyNode):
    """Works for ``seconds`` without giving the event loop back."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestSlowSampler",
            inputs=[io.Float.Input("seconds"), io.Image.Input("image")],
            outputs=[io.Float.Output("took", display_name="took")],
        )

    @classmethod
    def execute(cls, seconds, image):
        started = time.monotonic()
        while time.monotonic() - started < seconds:
            time.sleep(0.05)
        return io.NodeOutput(time.monotonic() - started)


class TestRaises(io.ComfyNode):
    """Raises after ``seconds``, while other asynchronous nodes of the prompt wait."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestRaises",
            inputs=[io.Float.Input("seconds")],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    async def execute(cls, seconds):
        await asyncio.sleep(seconds)
        raise RuntimeError("another node of the prompt failed")


class Extension(ComfyExtension):
    async def get_node_list(self):
        return [TestSlowSampler, TestRaises]


async def comfy_entrypoint():
    return Extension()
