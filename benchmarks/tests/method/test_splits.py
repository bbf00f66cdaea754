"""The three splits of a task are disjoint, equal for every run, and free of near-duplicates where it matters."""

import dataclasses

import pytest

from benchmarks.method.splits import split
from benchmarks.method.tasks import TASKS
from headmix_adapters.train.data.examples import Example

TASK = dataclasses.replace(TASKS["category"], train=20, validation=10, spare=5, apart=False)
TRAINING = [Example([number], 0) for number in range(60)]
HELD_OUT = [Example([-number], 0) for number in range(1, 8)]
TEXTS = [f"text number {number} is about something else: {number}" for number in range(60)]


def ids(examples: list[Example]) -> list[int]:
    return [example.input_ids[0] for example in examples]


def test_no_text_is_in_two_splits_and_every_run_has_the_same_ones() -> None:
    one, other = split(TASK, TRAINING, HELD_OUT, TEXTS), split(TASK, TRAINING, HELD_OUT, TEXTS)
    assert one == other
    parts = [ids(part) for part in (one.train, one.validation, one.test)]
    assert [len(part) for part in parts] == [20, 10, len(HELD_OUT) + 5]
    assert len(set().union(*parts)) == sum(map(len, parts))
    assert set(ids(HELD_OUT)) <= set(parts[2])


def test_near_duplicates_of_a_validation_text_are_not_trained_on() -> None:
    task = dataclasses.replace(TASK, spare=0, apart=True)
    texts = [
        f"call this number now to win a prize {'' if number % 2 else 'abcdefgh'[number % 7]}" for number in range(60)
    ]
    with pytest.raises(ValueError, match="category: 0 examples are left for training, 20 are wanted"):
        split(task, TRAINING, HELD_OUT, texts)
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
    own = [" ".join(words[number // 8 % 8] + words[number % 8] + word for word in words) for number in range(60)]
    assert len(split(task, TRAINING, HELD_OUT, own).train) == 20
