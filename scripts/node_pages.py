"""Write docs/nodes.md from the help pages and from what the nodes say of themselves; a test finds it when they differ.

    python scripts/node_pages.py

The sources: `js/docs/<NodeId>/en.md`, which ComfyUI shows in the editor, and `locales/en/nodeDefs.json`, which
`node_texts.py` writes from the nodes.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "nodes.md"
HELP = ROOT / "js" / "docs"
TEXTS = ROOT / "locales" / "en" / "nodeDefs.json"

HEAD = """# The nodes

In ComfyUI: select a node and press the **?** or **i** above it to read its page there. Double-click the canvas and type
`runflow` to see all of them.

"""
GROUPS = {
    "Judge": ("RunflowEvaluateImage", "RunflowShowVerdict", "RunflowEvaluationDetails"),
    "Ask more precisely": ("RunflowReferenceImage", "RunflowEvaluationOptions", "RunflowJudgeModel"),
    "Regenerate": ("RunflowRegenerateStart", "RunflowRegenerateEnd", "RunflowRepairSwitch"),
    "Go on with what is good": ("RunflowVerdictSwitch", "RunflowSplitByVerdict", "RunflowPickBest"),
    "Save and report": ("RunflowSaveJudged", "RunflowVerdictCard"),
    "Try it": ("RunflowExamplePhoto",),
    "What was judged before": ("RunflowGetEvaluation", "RunflowSendFeedback", "RunflowGetRun"),
}
INTERNAL = frozenset({"RunflowRegenerateAttempt"})
"""Not for workflows, and so not on the page."""


def render() -> str:
    """The whole page."""
    texts = json.loads(TEXTS.read_text("utf-8"))
    page = HEAD
    for group, nodes in GROUPS.items():
        links = (f"[{texts[node]['display_name']}](#{anchor(texts[node]['display_name'])})" for node in nodes)
        page += f"- **{group}**: {', '.join(links)}\n"
    return page + "".join(_section(node, texts[node]) for nodes in GROUPS.values() for node in nodes)


def anchor(heading: str) -> str:
    """What GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _section(node: str, texts: dict[str, Any]) -> str:
    said = (HELP / node / "en.md").read_text("utf-8").strip().removeprefix("# ")
    page = f"\n## {said}\n\nNode id: `{node}`\n"
    page += _table("input", [(name, each) for name, each in texts.get("inputs", {}).items()])
    return page + _table("output", [(each["name"], each) for each in texts.get("outputs", {}).values()])


def _table(head: str, rows: list[tuple[str, dict[str, Any]]]) -> str:
    if not rows:
        return ""
    lines = "".join(f"| `{name}` | {each.get('tooltip') or ''} |\n" for name, each in rows)
    return f"\n| {head} | |\n| --- | --- |\n{lines}"


if __name__ == "__main__":
    PAGE.write_text(render(), "utf-8", newline="\n")
