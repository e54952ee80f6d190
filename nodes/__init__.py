"""The nodes of the pack: a schema and a short ``execute`` each; what they do is in ``runflow_api``."""

from comfy_api.latest import ComfyExtension, io

from .evaluate import RunflowEvaluateImage, RunflowEvaluationOptions
from .references import RunflowReferenceImage
from .results import RunflowEvaluationDetails, RunflowShowVerdict

NODES: list[type[io.ComfyNode]] = [
    RunflowEvaluateImage,
    RunflowReferenceImage,
    RunflowEvaluationOptions,
    RunflowShowVerdict,
    RunflowEvaluationDetails,
]


class RunflowEvaluateExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
