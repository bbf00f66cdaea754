"""Three splits of a task's texts: to train on, to choose the learning rate by, and to test once.

The test split is the example's held-out file, which its data script keeps free of training texts' near-duplicates.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.method.tasks import Task
from examples.data.dataset import runs
from headmix_adapters.train.data.examples import Example

SHARED_WORDS = 6


@dataclass(frozen=True, slots=True)
class Splits:
    """The examples of a task, the same for every method, rate and seed."""

    train: list[Example]
    validation: list[Example]
    test: list[Example]


def split(task: Task, examples: Sequence[Example], held_out: Sequence[Example], texts: Sequence[str]) -> Splits:
    """Divide the training file's examples; `texts` are what near-duplicates are recognised by, one for each.

    Raises:
        ValueError: the file has too few examples.
    """
    order = random.Random(0).sample(range(len(examples)), len(examples))
    cut = task.validation + task.spare
    validation, spare, rest = order[: task.validation], order[task.validation : cut], order[cut:]
    if task.apart:
        taken = {run for number in order[:cut] for run in runs(texts[number], SHARED_WORDS)}
        rest = [number for number in rest if taken.isdisjoint(runs(texts[number], SHARED_WORDS))]
    if len(rest) < task.train:
        raise ValueError(f"{task.name}: {len(rest)} examples are left for training, {task.train} are wanted")
    return Splits(
        train=[examples[number] for number in rest[: task.train]],
        validation=[examples[number] for number in validation],
        test=[*held_out, *(examples[number] for number in spare)],
    )
