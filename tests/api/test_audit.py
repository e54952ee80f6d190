"""Licences of what the pack depends on, and what is made of pip-audit's answer."""

from __future__ import annotations

from email.message import Message
from importlib import metadata

import audit
import pytest


def about(**fields: str | list[str]) -> Message:
    message = Message()
    for name, values in fields.items():
        for value in [values] if isinstance(values, str) else values:
            message[name.replace("_", "-")] = value
    return message


@pytest.mark.parametrize("name", sorted(audit.closure()))
def test_every_dependency_has_a_licence_that_is_allowed(name: str) -> None:
    assert not audit.refusal(name, audit.licence(metadata.metadata(name)))


def test_dependencies_of_dependencies_count() -> None:
    assert {"requests", "urllib3", "certifi", "pydantic", "pydantic-core", "sqlalchemy"} <= audit.closure()
    assert "pytest" not in audit.closure()


@pytest.mark.parametrize(
    "licence", ["GPL-3.0-only", "MIT AND AGPL-3.0-or-later", "(MIT OR LGPL-2.1-only)", "", "Proprietary", "see LICENSE"]
)
def test_another_licence_is_refused(licence: str) -> None:
    assert audit.refusal("a", licence).startswith("a: ")


@pytest.mark.parametrize("licence", ["MIT", "BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0", "(MIT) AND PSF-2.0"])
def test_a_licence_made_of_allowed_ones_is_allowed(licence: str) -> None:
    assert audit.refusal("a", licence) == ""


def test_the_expression_counts_more_than_the_classifier_and_that_more_than_the_text() -> None:
    mpl = ["License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)", "Programming Language :: Python"]
    assert audit.licence(about(License_Expression="MIT", Classifier=mpl, License="BSD")) == "MIT"
    assert audit.licence(about(Classifier=mpl, License="the whole text of it")) == "MPL-2.0"
    assert audit.licence(about(Classifier=["License :: OSI Approved :: GNU Affero"], License="MIT")) == "GNU Affero"
    assert audit.licence(about(License="Apache-2.0")) == "Apache-2.0"
    assert audit.licence(about(Name="a")) == ""


def test_a_package_that_was_not_looked_up_is_not_clean() -> None:
    hole = {"id": "PYSEC-1", "fix_versions": ["1.1"]}
    report = {
        "dependencies": [
            {"name": "clean", "version": "1", "vulns": []},
            {"name": "old", "version": "1.0", "vulns": [hole]},
            {"name": "new", "skip_reason": "not found"},
        ]
    }
    vulnerable, unknown = audit.read(report, {"clean", "old", "new", "forgotten"})
    assert vulnerable == ["old 1.0: PYSEC-1, mended in 1.1"]
    assert unknown == ["forgotten: not in the report", "new: not looked up (not found)"]
