"""Stands for a package that is not installed, in the processes that tests start (`tests/conftest.py`)."""

raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")
