"""Reads WordNet's noun database: synsets with their words, category, definition and parent.

Format: the `wndb(5WN)` manual page. Knows nothing about examples or tasks.
"""

import re
from dataclasses import dataclass
from pathlib import Path

# Lexicographer files with one clear meaning each: number in the database -> label used here.
CATEGORIES = {
    "05": "animal",
    "06": "artifact",
    "08": "body",
    "13": "food",
    "15": "place",
    "18": "person",
    "20": "plant",
    "28": "time",
}

# Entries that WordNet itself marks as abusive or obscene, or that are about sex: unsuitable for an example.
_UNWANTED = re.compile(
    r"\b(slur|offensive|obscene|vulgar|derogatory|pejorative|disparag\w*|sexual\w*|prostitut\w*|genital\w*|penis|vagina)\b"
)


@dataclass(frozen=True)
class Synset:
    """One meaning: the words that share it, its category, its definition and the offset of its parent."""

    offset: str
    words: tuple[str, ...]
    category: str
    definition: str
    parent: str | None


def read_nouns(dictionary: Path) -> dict[str, Synset]:
    """Return the synsets of the categories above by offset, without individual people and places."""
    synsets = (_parse(line) for line in (dictionary / "data.noun").read_text(encoding="utf-8").splitlines())
    return {synset.offset: synset for synset in synsets if synset is not None}


def read_first_senses(dictionary: Path) -> dict[str, str]:
    """Return word -> offset of its first noun sense, for words that occur in WordNet's tagged texts in some sense."""
    first: dict[str, str] = {}
    for line in (dictionary / "index.noun").read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            continue
        fields = line.split()
        senses = int(fields[2])
        tagged_senses, offsets = int(fields[-senses - 1]), fields[-senses:]
        if tagged_senses > 0:
            first[fields[0]] = offsets[0]
    return first


def _parse(line: str) -> Synset | None:
    """Return the line's synset, or None for the licence header, other categories, individuals and unwanted entries."""
    head, _, gloss = line.partition(" | ")
    fields = head.split()
    if line.startswith(" ") or fields[1] not in CATEGORIES or _UNWANTED.search(gloss.lower()):
        return None
    word_count = int(fields[3], 16)
    pointers = fields[4 + 2 * word_count + 1 :]
    symbols, targets = pointers[::4], pointers[1::4]
    if "@i" in symbols:
        return None
    return Synset(
        offset=fields[0],
        words=tuple(word.replace("_", " ") for word in fields[4 : 4 + 2 * word_count : 2]),
        category=CATEGORIES[fields[1]],
        definition=_definition(gloss),
        parent=targets[symbols.index("@")] if "@" in symbols else None,
    )


def _definition(gloss: str) -> str:
    """Return the gloss without its usage examples, its later clauses and its remarks in parentheses."""
    without_examples = gloss.partition('; "')[0]
    first_clause = re.sub(r"\([^)]*\)", "", without_examples).split(";")[0]
    return " ".join(first_clause.split()).strip(" ,:")
