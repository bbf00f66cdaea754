import torch

from harness.adapters.artifacts import adapter_config
from harness.bases.tiny_model import tiny_shape
from headmix_server.device.adapters.adapter_pool import Occupant
from headmix_server.device.adapters.added_tokens import OccupantSpan, added_scores, take_added, vocabulary_size

CONFIG = adapter_config(tiny_shape())
ROWS = torch.arange(6.0).view(3, 2)
PLAIN = Occupant(1, "sha256:0", CONFIG, {})
ADDING = Occupant(1, "sha256:1", CONFIG, {}, ROWS)
OTHER = Occupant(1, "sha256:2", CONFIG, {}, -ROWS[:1])


def test_only_an_adapter_with_added_tokens_has_more_ids_than_the_base() -> None:
    assert [vocabulary_size(10, occupant) for occupant in (None, PLAIN, ADDING, OTHER)] == [10, 10, 13, 11]


def test_a_batch_without_added_tokens_is_left_alone() -> None:
    ids = [1, 9, 3]
    assert take_added(ids, [OccupantSpan(0, 2, ADDING), OccupantSpan(2, 1, None)], 10) is None
    assert ids == [1, 9, 3]


def test_every_added_id_takes_the_row_of_its_own_adapter() -> None:
    ids = [12, 4, 10, 5, 10, 6]
    added = take_added(
        ids,
        [OccupantSpan(0, 3, ADDING), OccupantSpan(3, 1, None), OccupantSpan(4, 1, OTHER), OccupantSpan(5, 1, PLAIN)],
        10,
    )
    assert added is not None
    assert ids == [9, 4, 9, 5, 9, 6]
    embeddings = torch.full((6, 2), 7.0)
    added.put(embeddings)
    expected = [ROWS[2], None, ROWS[0], None, -ROWS[0], None]
    for row, wanted in zip(embeddings, expected, strict=True):
        assert row.equal(torch.full((2,), 7.0) if wanted is None else wanted)


def test_added_tokens_have_scores_only_where_the_head_is_tied() -> None:
    hidden = torch.tensor([1.0, 2.0])
    scores = added_scores(hidden, ADDING, tied_head=True)
    assert scores is not None
    assert scores.equal(ROWS @ hidden)
    assert added_scores(hidden, ADDING, tied_head=False) is None
    assert added_scores(hidden, PLAIN, tied_head=True) is None
    assert added_scores(hidden, None, tied_head=True) is None
