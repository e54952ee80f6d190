"""Test nodes: one that blocks as a sampler does, one that raises after a while, one that lists ComfyUI's routes."""

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


class TestRoutes(io.ComfyNode):
    """Every HTTP route of this server, as "METHOD path"."""

    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="TestRoutes", inputs=[], outputs=[], is_output_node=True)

    @classmethod
    def execute(cls):
        from server import PromptServer

        routes = PromptServer.instance.app.router.routes()
        named = {f"{route.method} {route.resource.canonical}" for route in routes if route.resource is not None}
        return io.NodeOutput(ui={"routes": sorted(named)})


class Extension(ComfyExtension):
    async def get_node_list(self):
        return [TestSlowSampler, TestRaises, TestRoutes]


async def comfy_entrypoint():
    return Extension()
