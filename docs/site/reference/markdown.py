"""Markdown helpers shared by the generated pages."""

import re
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table, or nothing if it has no rows."""
    lines = [_row(row) for row in rows]
    return "\n".join([_row(head), "|" + "---|" * len(head), *lines, "\n"]) if lines else ""


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def code(text: str) -> str:
    """Return inline code."""
    return f"`{text}`"


def anchor(heading: str) -> str:
    """Return a heading's anchor, as GitHub generates it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def as_sentence(text: str) -> str:
    """Return a description with a capital letter and a period."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if not text or text[-1] in ".:!?" else ".")
