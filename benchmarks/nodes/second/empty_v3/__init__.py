"""A V3 pack with one node that does nothing: the least that any pack costs."""

from comfy_api.latest import ComfyExtension, io


class EmptyNode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="RunflowBenchmarkEmpty", inputs=[], outputs=[])

    @classmethod
    def execute(cls):
        return io.NodeOutput()


class Extension(ComfyExtension):
    async def get_node_list(self):
        return [EmptyNode]


async def comfy_entrypoint():
    return Extension()
