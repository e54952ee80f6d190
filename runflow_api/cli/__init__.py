"""The command line: ``python -m runflow_api``."""
