"""What tests, scripts and benchmarks share: a real ComfyUI, prompts, pictures, and evaluators on the sandbox.

Found by name once this folder's parent is on the path: `tests/conftest.py`, `scripts/_environment.py` and
`benchmarks/measure.py` put it there. `process` and `workflows` need the standard library only.
"""
