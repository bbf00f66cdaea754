"""docs/security.md names a test for each threat, and each of those tests exists."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.drift

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
REFERENCE = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def threats() -> list[str]:
    entries = PAGE.split("## Threats", maxsplit=1)[1].split("\n## ", maxsplit=1)[0]
    return [f"**{entry}" for entry in re.split(r"^\* \*\*", entries, flags=re.MULTILINE)[1:]]


def test_the_page_lists_threats() -> None:
    assert len(threats()) > 50


@pytest.mark.parametrize("threat", threats(), ids=lambda entry: entry.strip("*")[:40])
def test_every_threat_names_tests_that_are_there(threat: str) -> None:
    named = REFERENCE.findall(threat)
    assert named, "no test proves it"
    for file, function in named:
        source = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"^(async )?def {function}\(", source, re.MULTILINE), f"{file} has no {function}"
