"""Writes which own frames led to the first submission into `output/way.json`: see tests/support/way.py."""

import json
import os
import sys

import folder_paths

sys.path.append(os.environ["RUNFLOW_TEST_SUPPORT"])
import way

NODE_CLASS_MAPPINGS: dict = {}


def write(frames: list) -> None:
    with open(os.path.join(folder_paths.get_output_directory(), "way.json"), "w", encoding="utf-8") as file:
        json.dump(frames, file)


way.at_next_submission(write)
