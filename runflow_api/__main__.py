"""``python -m runflow_api``."""

import sys

try:
    from .cli.commands import main
except ModuleNotFoundError as error:
    sys.exit(
        f"{error.name} is missing. Use the Python that ComfyUI uses (portable: python_embeded/python.exe), or "
        "install what the pack needs: pip install -r requirements.txt"
    )

sys.exit(main())
