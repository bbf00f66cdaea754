"""Prompt lookup guesses what followed the same tokens before, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from headmix_server.engine.speculation.hit_rates import LONGEST, SHORTEST
from headmix_server.engine.speculation.prompt_lookup import CANDIDATES, INDEXED_AT_ONCE, PromptLookup

WORTHLESS = 0.0
"""Every guess is worth it."""


def guess(tokens: list[int], most: int = 3) -> list[int]:
    return list(PromptLookup().draft(tokens, most, WORTHLESS))


def test_what_followed_the_same_two_tokens_is_the_guess() -> None:
    assert guess([1, 2, 3, 4, 5, 9, 1, 2]) == [3, 4, 5]


def test_one_token_in_common_is_not_enough() -> None:
    assert guess([1, 2, 3, 9, 2]) == []
    assert guess([7]) == guess([7, 7]) == []


def test_the_longest_match_wins_over_a_later_one() -> None:
    assert guess([5, 1, 2, 30, 6, 1, 2, 40, 0, 5, 1, 2], 1) == [30]


def test_of_equal_matches_the_latest_wins() -> None:
    assert guess([1, 2, 30, 1, 2, 40, 1, 2], 1) == [40]


def test_what_repeats_is_guessed_to_go_on() -> None:
    assert guess([8, 1, 2, 1, 2], 6) == [1, 2, 1, 2, 1, 2]
    assert guess([8, 3, 3, 3], 4) == [3, 3, 3, 3]


def test_tokens_that_come_one_at_a_time_are_found_like_all_at_once() -> None:
    tokens = [1, 2, 3, 1, 2, 4, 1, 2, 3, 1, 2]
    lookup = PromptLookup()
    guesses = [list(lookup.draft(tokens[:end], 2, WORTHLESS)) for end in range(1, len(tokens) + 1)]
    assert guesses == [guess(tokens[:end], 2) for end in range(1, len(tokens) + 1)]


def test_a_long_prompt_is_indexed_in_parts_before_anything_is_guessed() -> None:
    tokens = [*range(10, 10 + 2 * INDEXED_AT_ONCE), 10, 11]
    lookup = PromptLookup()
    assert [list(lookup.draft(tokens, 1, WORTHLESS)) for _ in range(4)] == [[], [], [12], [12]]


def lengths(tokens: list[int], start: int, least: float = 0.3) -> list[int]:
    """Return how many tokens are guessed at each token from a place on, told one by one."""
    lookup = PromptLookup()
    return [len(lookup.draft(tokens[:end], 8, least)) for end in range(start, len(tokens))]


def test_guesses_grow_while_they_are_right_though_none_was_computed() -> None:
    text = list(range(100, 160))
    found = lengths([*text, *text], 62)
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0, 8)


def test_guesses_that_were_wrong_end_until_enough_would_have_been_right() -> None:
    text = list(range(100, 160))
    misleading = [token for number in range(30) for token in (7, 8, 200 + number)]
    found = lengths([*text, *misleading, *text], len(text), 0.1)
    assert any(found[:20])
    assert not any(found[20 : len(misleading)])
    assert found[-1] == 8


def test_the_dearer_a_guess_the_surer_it_must_be() -> None:
    text = [1, 2, 3, 4, 5, 1, 2, 3, 4, 6] * 8
    totals = [sum(lengths(text, 12, least)) for least in (0.1, 0.4, 0.7, 0.99)]
    assert totals == sorted(totals, reverse=True)
    assert totals[0] > totals[-1] == 0


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 8))
def test_a_guess_is_what_followed_the_best_of_the_last_matches(tokens: list[int], most: int) -> None:
    ends = [end for end in range(SHORTEST, len(tokens)) if tokens[end - SHORTEST : end] == tokens[-SHORTEST:]]
    candidates = ends[::-1][:CANDIDATES]
    if not candidates:
        assert guess(tokens, most) == []
        return

    def length(end: int) -> int:
        return max(n for n in range(SHORTEST, LONGEST + 1) if n <= end and tokens[end - n : end] == tokens[-n:])

    best = max(candidates, key=length)  # the first of equals: the latest
    expected = list(tokens)
    for place in range(most):
        expected.append(expected[best + place])
    assert guess(tokens, most) == expected[len(tokens) :]
