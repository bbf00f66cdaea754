"""Forced tokens of grammars as guesses: the same tokens in fewer steps, beside requests without a grammar."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.engine.engines import LIMITS, Bench, generate
from harness.engine.listed_grammar import ListedCompiler, ListedMatcher
from headmix_server.core.messages import Generate
from headmix_server.engine.sequence import Sequence
from headmix_server.engine.speculation.forced_tokens import ForcedTokens

TOKENS = range(8)


def make(speculative_tokens: int) -> Bench:
    return Bench(replace(LIMITS, speculative_tokens=speculative_tokens), TOKENS, compiler=ListedCompiler())


def answers(bench: Bench, messages: list[Generate]) -> list[list[int]]:
    bench.submit(*messages)
    bench.drain()
    bench.close()
    return [bench.tokens(message.request_id) for message in messages]


def test_a_forced_text_takes_fewer_steps() -> None:
    message = generate("g", [1], grammar="1,2|3|4|5|6|7|1,2", max_tokens=50)
    plain, guessing = make(0), make(8)
    assert answers(plain, [message]) == answers(guessing, [message])
    assert len(plain.batches) == 7
    assert len(guessing.batches) == 2


GRAMMARS = st.lists(st.sets(st.integers(0, 7), min_size=1, max_size=2), min_size=1, max_size=12)


@given(
    st.lists(st.tuples(st.none() | GRAMMARS, st.integers(1, 10), st.lists(st.integers(0, 7), max_size=2)), max_size=6)
)
@settings(max_examples=60, deadline=None)
def test_mixed_requests_get_the_same_tokens_with_and_without(
    asked: list[tuple[list[set[int]] | None, int, list[int]]],
) -> None:
    messages = [
        generate(
            f"r{number}",
            [number, 1, 2],
            max_tokens=most,
            stop_token_ids=tuple(stops),
            logprobs=1,
            grammar=None if places is None else "|".join(",".join(map(str, sorted(place))) for place in places),
        )
        for number, (places, most, stops) in enumerate(asked)
    ]
    plain, guessing = make(0), make(4)
    assert answers(plain, messages) == answers(guessing, messages)
    for message in messages:
        assert plain.terminal(message.request_id) == guessing.terminal(message.request_id)


def sequence(places: list[list[int]]) -> Sequence:
    made = Sequence.from_message(1, generate("r", [1]), 0.0)
    made.matcher = ListedMatcher(places)
    return made


def test_guesses_that_are_mostly_wrong_are_made_only_where_they_cost_nothing() -> None:
    bound = sequence([[1], [2], [3], [4, 5]])
    drafter = ForcedTokens(bound)
    assert list(drafter.draft(bound.tokens, 8, 0.5)) == [1, 2, 3]
    for _ in range(10):
        bound.tokens.append(7)  # the text in other pieces
        drafter.draft(bound.tokens, 8, 0.5)
    assert not drafter.draft(bound.tokens, 8, 0.5)
    assert list(drafter.draft(bound.tokens, 8, 0.0)) == [1, 2, 3]
    assert list(drafter.draft(bound.tokens, 2, 0.0)) == [1, 2]


def test_a_grammar_that_is_not_compiled_or_too_complex_forces_nothing() -> None:
    waiting = Sequence.from_message(1, generate("r", [1]), 0.0)
    assert not ForcedTokens(waiting).draft(waiting.tokens, 8, 0.5)
