"""The code blocks on the documentation's pages, and which of them are run.

A `sh` or `python` block is run by a test unless the line before it is `<!-- not run: the reason -->`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAMS = {"sh", "python"}
DATA = {"csv", "http", "ini", "json", "jsonl", "text", "toml", "yaml"}
"""The languages of blocks that are never run."""

_BLOCK = re.compile(
    r"(?:^[ ]*<!-- not run: (?P<reason>[^\n]+?) -->\n\s*)?"
    r"^(?P<indent>[ ]*)```(?P<language>[^\n`]*)\n(?P<text>.*?)^[ ]*```[ ]*$",
    re.MULTILINE | re.DOTALL,
)
_INDENTED = re.compile(r"(?<=\n\n) {4}(?P<command>(?:headmix|make|pip|npm|curl|python3?|docker|sqlite3|sudo) .*)")
_MARKER = re.compile(r"^[ ]*<!--\s*not run\b", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a page. `reason` says why it is not run, if it is not."""

    page: str
    line: int
    language: str
    text: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Return every Markdown page in the repository that may have blocks, by its path."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def blocks(page: str) -> list[Block]:
    """Return a page's blocks in order."""
    return parse(page, (ROOT / page).read_text(encoding="utf-8"))


def parse(page: str, text: str) -> list[Block]:
    """Return the blocks of a page's text.

    Raises:
        ValueError: a marker is not followed by a block, a block's language is unknown, or commands are in an indented
            block, which has no language.
    """
    found = [_block(page, text, match) for match in _BLOCK.finditer(text)]
    if len(_MARKER.findall(text)) != sum(block.reason is not None for block in found):
        raise ValueError(f"{page}: a marker is `<!-- not run: the reason -->`, on the line before its block")
    if indented := _INDENTED.search(_BLOCK.sub("", text)):
        raise ValueError(f"{page}: put these commands between ```sh and ```: {indented['command']}")
    for block in found:
        if block.language not in PROGRAMS | DATA:
            raise ValueError(f"{block}: a block is one of {', '.join(sorted(PROGRAMS | DATA))}, not {block.language!r}")
    return found


def _block(page: str, text: str, match: re.Match[str]) -> Block:
    indent, body = len(match["indent"]), match["text"]
    lines = [line[indent:] if not line[:indent].strip() else line for line in body.splitlines(keepends=True)]
    line = text.count("\n", 0, match.start("language")) + 1
    return Block(page, line, match["language"].strip(), "".join(lines), match["reason"])


def to_run(page: str, language: str) -> list[Block]:
    """Return the blocks of a page in one language that a test must run."""
    return [block for block in blocks(page) if block.language == language and block.reason is None]
