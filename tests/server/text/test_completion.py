import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.bases.base_folder import write_base_folder
from harness.server.fake_engine import EOS
from headmix_server.core.messages import TokenOutput
from headmix_server.core.types import FinishReason, SamplingParams, TokenLogprob
from headmix_server.text.completion import CompletionText
from headmix_server.text.stop import StopMatcher
from headmix_server.text.tokenizer import Tokenizer, load_tokenizer

STEPS = st.lists(st.lists(st.integers(3, 399), min_size=1, max_size=3), max_size=20)
STOPS = st.lists(st.sampled_from(["a", "e ", " th", "o", "\ufffd", "fox"]), max_size=3)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(write_base_folder(tmp_path_factory.mktemp("base")))


@given(steps=STEPS, stops=STOPS, ends=st.booleans())
def test_deltas_joined_are_the_decoded_tokens_cut_at_the_first_stop(
    tokenizer: Tokenizer, steps: list[list[int]], stops: list[str], ends: bool
) -> None:
    steps = [*steps, [EOS if ends else 3]]
    text = CompletionText(tokenizer, [3], SamplingParams(max_tokens=100, logprobs=0), stops)
    shown, places, taken, reason = "", list[int](), list[int](), None
    for number, tokens in enumerate(steps):
        last = number + 1 == len(steps)
        finish = (FinishReason.STOP if ends else FinishReason.LENGTH) if last else None
        logprobs = [TokenLogprob(token=token, logprob=-1.0) for token in tokens]
        delta = text.add(TokenOutput(request_id="r", tokens=tokens, logprobs=logprobs, finish_reason=finish))
        assert delta.num_tokens == len(tokens)
        shown += delta.text
        places += [entry.offset for entry in delta.logprobs]
        taken += [entry.logprob.token for entry in delta.logprobs]
        reason = delta.finish_reason
        if reason is not None:
            break
    made = [token for tokens in steps for token in tokens if token != EOS]
    whole = StopMatcher(stops)
    expected = whole.push(tokenizer.decode(made)) + whole.flush()
    assert shown == expected
    assert reason is (FinishReason.STOP if ends or whole.matched is not None else FinishReason.LENGTH)
    assert taken == made[: len(taken)]
    assert all(place <= len(shown) for place in places)
    if whole.matched is None:
        assert taken == made


def test_special_tokens_are_shown_where_that_is_wanted_but_not_the_end(tokenizer: Tokenizer) -> None:
    shown, fox = tokenizer.showing_special_tokens(), tokenizer.encode("fox")
    start = tokenizer.token_id("<|im_start|>") or -1
    text = CompletionText(shown, fox, SamplingParams(max_tokens=9), ["<|im_"])
    assert text.add(TokenOutput(request_id="r", tokens=fox)).text == "fox"
    assert text.add(TokenOutput(request_id="r", tokens=[start])).finish_reason is FinishReason.STOP
    text = CompletionText(shown, [start], SamplingParams(max_tokens=9), [])
    last = text.add(TokenOutput(request_id="r", tokens=[start, *fox, EOS], finish_reason=FinishReason.STOP))
    assert last.text == "<|im_start|>fox"


def test_the_scores_are_those_of_every_token_that_counts(tokenizer: Tokenizer) -> None:
    """The end token's too, and none behind the token that completes a stop string."""
    tokens = tokenizer.encode("The quick brown fox")
    scores = [-float(place) for place in range(len(tokens) + 1)]
    logprobs = [TokenLogprob(token=token, logprob=score) for token, score in zip([*tokens, EOS], scores, strict=True)]
    whole = TokenOutput(request_id="r", tokens=[*tokens, EOS], logprobs=logprobs, finish_reason=FinishReason.STOP)
    sampling = SamplingParams(max_tokens=100, logprobs=0)
    assert CompletionText(tokenizer, [3], sampling, []).add(whole).scores == tuple(scores)
    cut = CompletionText(tokenizer, [3], sampling, ["ick"]).add(whole)
    counted = next(n for n in range(len(tokens)) if "ick" in tokenizer.decode(tokens[:n]))
    assert cut.scores == tuple(scores[:counted])
    assert CompletionText(tokenizer, [3], sampling, []).add(TokenOutput(request_id="r", tokens=[5])).scores == ()


def test_an_end_token_that_is_ignored_is_counted_and_has_no_text(tokenizer: Tokenizer) -> None:
    text = CompletionText(tokenizer, [3], SamplingParams(max_tokens=2, ignore_eos=True), [])
    assert text.add(TokenOutput(request_id="r", tokens=[EOS])).finish_reason is None
    last = text.add(TokenOutput(request_id="r", tokens=[EOS], finish_reason=FinishReason.LENGTH))
    assert (last.text, last.num_tokens) == ("", 1)
