"""Markdown pages can be read raw: at most 100 columns, a little more in tables; code and URLs may exceed it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prose.pieces import ROOT, pages

pytestmark = pytest.mark.drift

TEXT, TABLE = 100, 140
_LINK = re.compile(r"\]\([^)]*\)|<https?://[^>]*>|https?://\S+")
_FENCE = re.compile(r"^\s*(```|~~~)")
# A list item or line of a single word cannot be wrapped.
_ONE_WORD = re.compile(r"^\s*(?:[*+-] )?\S+$")


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_line_is_wider_than_it_may_be(page: Path) -> None:
    wide = [
        f"{page.relative_to(ROOT)}:{number}: {line}" for number, line in _prose(page) if _width(line) > _limit(line)
    ]
    assert not wide, "wrap these lines:\n" + "\n".join(wide)


def _prose(page: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines outside code blocks, with their numbers."""
    fenced = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced and not line.startswith("    "):
            yield number, line


def _width(line: str) -> int:
    return 0 if _ONE_WORD.match(line) else len(_LINK.sub("]", line))


def _limit(line: str) -> int:
    return TABLE if line.startswith("|") else TEXT
