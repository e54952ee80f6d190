"""ComfyUI's own way from a tensor to a data URI, imported from a checkout: what its API nodes use."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from measure import ROOT  # noqa: F401  (puts the repository on the path)

LARGEST = 1 << 40
"""Pixels. By default the conversion shrinks what has more than 2048 × 2048; here both do the same work."""


def load(checkout: Path) -> Callable[[npt.NDArray[np.float32]], str]:
    """``tensor_to_base64_string`` of ``comfy_api_nodes/util/conversions.py``, for (H, W, C) arrays."""
    import _environment

    sys.path[:0] = [str(checkout), *map(str, _environment.standins_for(sys.executable))]
    import utils.extra_config  # noqa: F401  (ComfyUI's own main.py, too, imports it first)
    from comfy.cli_args import args

    args.cpu = True
    import torch
    from comfy_api_nodes.util.conversions import tensor_to_base64_string

    def convert(image: npt.NDArray[np.float32]) -> str:
        text: Any = tensor_to_base64_string(torch.from_numpy(image), total_pixels=LARGEST)
        return f"data:image/png;base64,{text}"

    return convert
