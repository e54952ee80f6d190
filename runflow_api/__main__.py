"""``python -m runflow_api``, and ``python DIR/runflow_api`` if an isolated Python finds no package by its name."""

import sys
from pathlib import Path

if not __package__:  # started as a folder, which Python has put first where modules are looked for
    sys.path[0] = str(Path(__file__).absolute().parent.parent)  # as it was named: a link into custom_nodes says where

try:
    from runflow_api.cli.commands import program
except ModuleNotFoundError as error:
    sys.exit(
        f"{error.name} is missing. Use the Python that ComfyUI uses (portable: python_embeded/python.exe), or "
        "install what the pack needs: pip install -r requirements.txt"
    )

program()
