"""The generator is Philox4x32-10 as published (Random123's known answers), with key and counter as documented."""

import math

import torch

from headmix_server.kernels.sampling.philox import draw_words, gumbel, philox


def words(counter: tuple[int, int], key: tuple[int, int]) -> list[int]:
    columns = [torch.tensor([[number]]) for number in (*counter, *key)]
    return [int(word) for word in philox(*columns)]


def test_the_words_are_the_published_ones() -> None:
    assert words((0, 0), (0, 0)) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


def test_a_word_depends_on_seed_position_and_token_alone() -> None:
    seeds, positions = torch.tensor([3, 2**63 - 1, 3, 3 + 2**40]), torch.tensor([7, 7, 2**31, 7])
    many = draw_words(seeds, positions, 70_000)
    for row in range(4):
        alone = draw_words(seeds[row : row + 1], positions[row : row + 1], 100)[0]
        assert torch.equal(alone, many[row, :100])
    assert len({tuple(row[:8]) for row in many.tolist()}) == 4
    assert len(set(many[0].tolist())) > 69_990  # of 2^32


def test_a_token_has_the_word_of_its_place_in_its_block() -> None:
    found = draw_words(torch.tensor([5 + (9 << 32)]), torch.tensor([11]), 200)[0]
    for token in (0, 15, 16, 63, 64, 199):
        counter = token // 64 * 16 + token % 16
        assert int(found[token]) == words((counter, 11), (5, 9))[token % 64 // 16]


def test_the_noise_is_finite_at_both_ends_and_standard_gumbel_between() -> None:
    ends = gumbel(torch.tensor([0, 2**32 - 1]))
    assert ends.isfinite().all()
    noise = gumbel(draw_words(torch.tensor([1]), torch.tensor([1]), 100_000))
    assert abs(float(noise.mean()) - 0.5772) < 0.02
    assert abs(float(noise.var()) - math.pi**2 / 6) < 0.05
