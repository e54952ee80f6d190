"""The nodes of the pack: a schema and a short ``execute`` each; what they do is in ``runflow_api``."""

from comfy_api.latest import ComfyExtension, io

from . import _collect, _load_image, _runtime
from .evaluate import RunflowEvaluateImage, RunflowEvaluationOptions
from .examples import RunflowExamplePhoto
from .judges import RunflowJudgeModel
from .lookup import RunflowGetEvaluation, RunflowGetRun, RunflowSendFeedback
from .references import RunflowReferenceImage
from .regenerate.nodes import RunflowRegenerateAttempt, RunflowRegenerateEnd, RunflowRegenerateStart
from .report import RunflowVerdictCard
from .results import RunflowEvaluationDetails, RunflowShowVerdict
from .routes.register import register
from .routing import RunflowPickBest, RunflowRepairSwitch, RunflowSplitByVerdict, RunflowVerdictSwitch
from .save import RunflowSaveJudged

NODES: list[type[io.ComfyNode]] = [
    RunflowEvaluateImage,
    RunflowJudgeModel,
    RunflowReferenceImage,
    RunflowEvaluationOptions,
    RunflowShowVerdict,
    RunflowEvaluationDetails,
    RunflowRegenerateStart,
    RunflowRegenerateEnd,
    RunflowRegenerateAttempt,
    RunflowRepairSwitch,
    RunflowVerdictSwitch,
    RunflowSplitByVerdict,
    RunflowPickBest,
    RunflowGetEvaluation,
    RunflowSendFeedback,
    RunflowGetRun,
    RunflowVerdictCard,
    RunflowExamplePhoto,
    RunflowSaveJudged,
]


class RunflowEvaluateExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


register()
_runtime.call_at_start(_collect.collect)
_runtime.call_at_start(_load_image.note)
