"""The version of the package is the one that the documents tell of."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from tests.installs.environments import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_version_is_told_of() -> None:
    """The first section of CHANGELOG.md is that of the version, its minor is supported, and versions.md has it."""
    version = PROJECT["version"]
    minor = version.rpartition(".")[0]
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## ([\d.]+)", changes, re.MULTILINE)
    assert headings[0] == version
    assert f"| {minor} | yes |" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    versions = (ROOT / "docs" / "versions.md").read_text(encoding="utf-8")
    assert f"| | {minor} |" in versions
    assert f"gemqueue~={version}" in versions


def test_the_pythons_are_those_of_the_package() -> None:
    """The documents name the first and the last Python that the package is declared for."""
    found = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    for name in ("versions", "install"):
        text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
        assert f"| Python | {found[0]} to {found[-1]} |" in text
