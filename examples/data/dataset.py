"""What the prepare scripts share: the two record formats, the seeded order, the command line, and writing JSON Lines.

Knows nothing about any particular source.
"""

import argparse
import json
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

SEED = 7

Item = TypeVar("Item")
Record = dict[str, object]


@dataclass(frozen=True)
class Split:
    """A data set split into a training part and a held-out part."""

    train: Sequence[Record]
    held_out: Sequence[Record]


def labelled(text: str, label: str) -> Record:
    """Return one classification example."""
    return {"text": text, "label": label}


def exchange(prompt: str, answer: str) -> Record:
    """Return one generation example: a user message and the answer to learn."""
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]}


def shuffled(items: Iterable[Item], key: Callable[[Item], str]) -> list[Item]:
    """Return the items in an order that depends only on their keys: sorted, then shuffled with a fixed seed."""
    ordered = sorted(items, key=key)
    random.Random(SEED).shuffle(ordered)
    return ordered


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, without digits and punctuation."""
    return re.findall(r"[a-z']+", text.lower())


def runs(text: str, length: int) -> set[tuple[str, ...]]:
    """Return every run of `length` consecutive words: two texts that share one count as near-duplicates."""
    spelled = words(text)
    return {tuple(spelled[start : start + length]) for start in range(len(spelled) - length + 1)}


def one_line(text: str) -> str:
    """Return the text with every run of white space replaced by one space."""
    return " ".join(text.split())


def write_jsonl(path: Path, records: Iterable[Record]) -> None:
    """Write one JSON object per line, in UTF-8."""
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    path.write_text("".join(lines), encoding="utf-8")
    print(f"{path}: {len(lines)} examples, {path.stat().st_size} bytes")


def command(name: str, build: Callable[[Path], Split]) -> None:
    """Run a prepare script: read the folder named on the command line, write `<name>.train.jsonl` and `.eval.jsonl`."""
    parser = argparse.ArgumentParser(description=f"Prepare the {name} example's data.")
    parser.add_argument("source", type=Path, help="folder of the unpacked source package")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    arguments = parser.parse_args()
    if not arguments.source.is_dir():
        parser.error(f"{arguments.source} is not a folder")
    split = build(arguments.source)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_jsonl(arguments.out / f"{name}.train.jsonl", split.train)
    write_jsonl(arguments.out / f"{name}.eval.jsonl", split.held_out)
