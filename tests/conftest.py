"""What every test gets: imports of the pack and of `support`, marks by what it uses, no RUNFLOW_ setting of this
machine."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# Appended, never prepended: the pack's `nodes` folder must not hide ComfyUI's own `nodes.py`.
for folder in (ROOT, ROOT / "tests", ROOT / "scripts"):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))

# Background jobs of a shell ignore Ctrl-C, and so does what they start; but tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Whoever ends the tests ends their servers: by itself Python would go without clearing anything up.
signal.signal(signal.SIGTERM, signal.default_int_handler)

# How long one example takes depends on the machine, not on the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

WITHOUT_READER = ROOT / "tests" / "support" / "without_reader"
READER = ("rapidocr", "onnxruntime")
# Also for servers that start before a test's own fixtures do.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(WITHOUT_READER), os.environ.get("PYTHONPATH")]))

SLOW = ("test_journal_processes", "test_paid_once", "test_text_in_pictures")
"""Files whose tests start processes and kill them, or read text in pictures."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks by folder and fixture; on several workers, the order in which they take the tests."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        in_browser = ROOT / "tests" / "browser" in item.path.parents
        if in_browser:
            item.add_marker("browser")
            item.add_marker(pytest.mark.flaky(reruns=1))  # on a new page; the summary names it under RERUN
        if "comfyui_factory" in fixtures:
            item.add_marker("comfyui")
        if "sandbox" in fixtures or item.path.stem in SLOW or "[server" in item.name:  # on a PostgreSQL of its own
            item.add_marker("slow")
    if "PYTEST_XDIST_WORKER" in os.environ:
        from support.workers import place_in_line

        items.sort(key=lambda item: place_in_line(item.nodeid))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What passed at the second try says why it failed at the first."""
    for report in terminalreporter.getreports("rerun"):
        terminalreporter.write_sep("_", f"first try of {report.nodeid}")
        terminalreporter.write_line(report.longreprtext)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    from support.workers import ByServer

    return ByServer(config, log)


@pytest.fixture(autouse=True)
def no_runflow_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's key must not reach a test, nor a test Runflow; RUNFLOW_TEST_ variables are for the tests."""
    for name in list(os.environ):
        if name.startswith("RUNFLOW_") and not name.startswith("RUNFLOW_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The optional reader of text is there for tests marked `reads_text` only: loading it takes 4 s in each process,
    and every picture half a second."""
    if request.node.get_closest_marker("reads_text"):
        paths = os.environ["PYTHONPATH"].split(os.pathsep)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path != str(WITHOUT_READER)))
    else:
        for name in READER:
            monkeypatch.setitem(sys.modules, name, None)
