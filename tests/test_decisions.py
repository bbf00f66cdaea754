"""DECISIONS.md indexes every record under docs/decisions/, and the records name modules that exist.

`python -m tests.test_decisions` writes the index.
"""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.drift

ROOT = Path(__file__).parents[1]
INDEX = ROOT / "DECISIONS.md"
GROUPS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
SOURCES = [
    ROOT / "server" / "headmix_server",
    ROOT / "adapters" / "headmix_adapters",
    ROOT / "client" / "headmix",
    ROOT,
]
NAMED_FILE = re.compile(r"`([\w.-]+(?:/[\w.-]+)+\.(?:py|cpp|md))`")
NAMED_PROGRAM = re.compile(r"python -m ([\w.]+)")
PART = re.compile(r"^\* \*\*(\w+)\*\*", re.MULTILINE)


def titles(group: Path) -> list[str]:
    return re.findall(r"^## (.+)$", group.read_text(encoding="utf-8"), re.MULTILINE)


def anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def index() -> str:
    sections = []
    for group in GROUPS:
        subject = group.read_text(encoding="utf-8").splitlines()[0].removeprefix("# Decisions: ")
        lines = [f"* [{title}](docs/decisions/{group.name}#{anchor(title)})" for title in titles(group)]
        sections.append("\n".join([f"## {subject[0].upper()}{subject[1:]}", "", *lines, ""]))
    return "\n".join(sections)


def preface() -> str:
    return INDEX.read_text(encoding="utf-8").split("\n## ", maxsplit=1)[0].rstrip() + "\n\n"


def test_the_index_lists_every_record() -> None:
    assert INDEX.read_text(encoding="utf-8") == preface() + index()


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.stem)
def test_titles_are_unique_and_make_one_anchor_everywhere(group: Path) -> None:
    anchors = [anchor(title) for title in titles(group)]
    assert anchors
    assert len(set(anchors)) == len(anchors)
    assert not [one for one in anchors if "--" in one]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.stem)
def test_a_record_consists_of_the_four_parts(group: Path) -> None:
    records = group.read_text(encoding="utf-8").split("\n## ")[1:]
    for record in records:
        parts = PART.findall(record)
        assert parts, record
        assert set(parts) <= {"Context", "Decision", "Figures", "Rejected"}, record


@pytest.mark.parametrize("page", [INDEX, *GROUPS], ids=lambda page: page.stem)
def test_files_and_programs_that_records_name_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = [name for name in NAMED_FILE.findall(text) if not any((source / name).exists() for source in SOURCES)]
    programs = [name.replace(".", "/") for name in NAMED_PROGRAM.findall(text)]
    missing += [
        name for name in programs if not any((ROOT / f"{name}{end}").exists() for end in (".py", "/__main__.py"))
    ]
    assert not missing


if __name__ == "__main__":
    INDEX.write_text(preface() + index(), encoding="utf-8")
