"""Each example occurs once per epoch, in an order that depends on seed and epoch only; padding is never data."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from headmix_adapters.train.data.batches import LengthBatches, by_length, collate
from headmix_adapters.train.data.examples import Example

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=120)


@given(LENGTHS, st.integers(1, 9), st.integers(0, 5))
def test_every_example_comes_once_an_epoch_in_batches_no_larger_than_asked(
    lengths: list[int], batch_size: int, epoch: int
) -> None:
    batches = LengthBatches(lengths, batch_size, seed=1)
    batches.set_epoch(epoch)
    drawn = list(batches)
    assert len(drawn) == len(batches)
    assert all(1 <= len(batch) <= batch_size for batch in drawn)
    assert sorted(number for batch in drawn for number in batch) == list(range(len(lengths)))


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        batches = LengthBatches(list(range(1, 40)), 4, seed)
        batches.set_epoch(epoch)
        return list(batches)

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)


def test_lengths_within_a_batch_are_alike() -> None:
    lengths = [number % 16 + 1 for number in range(64)]
    spreads = [max(ls) - min(ls) for ls in ([lengths[i] for i in batch] for batch in LengthBatches(lengths, 4, 0))]
    assert max(spreads) == 0


def test_collate_pads_on_the_right_and_masks_the_padding() -> None:
    batch = collate([Example([5, 6, 7], [-100, 6, 7]), Example([8], [8])])
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 7], [8, -100, -100]]
    values = collate([Example([5, 6], (1.0, 0.0)), Example([8], (0.0, 0.5))])
    assert values["labels"].tolist() == [[1.0, 0.0], [0.0, 0.5]]
    assert collate([Example([5, 6], 1)])["labels"].tolist() == [1]


def test_collate_passes_states_on_in_place_of_tokens() -> None:
    examples = [Example([5, 6], 0, torch.ones(2, 3)), Example([8], 1, torch.ones(1, 3))]
    batch = collate(examples)
    assert batch.keys() == {"prefix_states", "attention_mask", "labels"}
    assert batch["prefix_states"].sum(dim=-1).tolist() == [[3, 3], [3, 0]]


@given(LENGTHS, st.integers(1, 9))
def test_scoring_batches_hold_every_example(lengths: list[int], batch_size: int) -> None:
    examples = [Example([1] * length, number) for number, length in enumerate(lengths)]
    drawn = [example.labels for batch in by_length(examples, batch_size) for example in batch]
    assert sorted(drawn) == list(range(len(lengths)))
