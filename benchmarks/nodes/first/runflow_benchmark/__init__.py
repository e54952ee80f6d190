"""In ComfyUI: times the packs that are loaded after this one, and works as a sampler does.

ComfyUI's own "Import times" have one decimal. This replaces ``nodes.load_custom_node`` by one that prints what it took
and which modules it brought, as ``RUNFLOW_BENCHMARK {json}``.
"""

import json
import sys
import time
from pathlib import Path

import torch
from comfy_api.latest import ComfyExtension, io


class BenchmarkSampler(io.ComfyNode):
    """Multiplies matrices on one thread and keeps the prompt's event loop, as a sampler on a GPU does with Python's."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="RunflowBenchmarkSampler",
            inputs=[io.Int.Input("steps"), io.Int.Input("round"), io.Image.Input("image")],
            outputs=[io.Float.Output("took", display_name="took")],
        )

    @classmethod
    def execute(cls, steps, round, image):
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            matrix = torch.rand(512, 512)
            began = time.perf_counter()
            for _ in range(steps):
                matrix = torch.nn.functional.normalize(matrix @ matrix)
            return io.NodeOutput(time.perf_counter() - began)
        finally:
            torch.set_num_threads(threads)


class Extension(ComfyExtension):
    async def get_node_list(self):
        return [BenchmarkSampler]


def _time_the_others():
    import nodes

    load = nodes.load_custom_node

    async def timed(module_path, *args, **keywords):
        before, began, processor = set(sys.modules), time.perf_counter(), time.thread_time()
        loaded = await load(module_path, *args, **keywords)
        took = {"seconds": time.perf_counter() - began, "processor": time.thread_time() - processor}
        brought = sorted(set(sys.modules) - before)
        said = {"pack": Path(module_path).name, **took, "loaded": loaded, "modules": brought}
        print(f"RUNFLOW_BENCHMARK {json.dumps(said)}", flush=True)
        return loaded

    nodes.load_custom_node = timed


async def comfy_entrypoint():
    _time_the_others()
    return Extension()
