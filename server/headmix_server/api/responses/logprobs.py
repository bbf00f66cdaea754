"""Log-probabilities in OpenAI's two shapes: parallel lists for completions, one object per token for chat.

Those of a long prompt, or of many tokens released together, are converted in parts: see `responses.scores`.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from headmix_server.api.schemas.chat import ChatLogprobs, ChatTokenLogprob, TopLogprob
from headmix_server.api.schemas.completions import CompletionLogprobs
from headmix_server.core.types import TokenLogprob
from headmix_server.text.completion import PlacedLogprob
from headmix_server.text.detokenize import Detokenizer
from headmix_server.text.tokenizer import Tokenizer

T = TypeVar("T")

PART = 16
"""In tokens; each takes about 60 microseconds with 20 alternatives."""


def chat_logprobs(tokenizer: Tokenizer, entries: Sequence[PlacedLogprob]) -> ChatLogprobs:
    """Return the tokens in the shape of chat completions."""
    return ChatLogprobs(
        content=[
            ChatTokenLogprob(
                token=tokenizer.name(entry.logprob.token),
                logprob=entry.logprob.logprob,
                bytes=_bytes(tokenizer, entry.logprob.token),
                top_logprobs=[
                    TopLogprob(
                        token=tokenizer.name(token),
                        logprob=logprob,
                        bytes=_bytes(tokenizer, token),
                    )
                    for token, logprob in entry.logprob.top
                ],
            )
            for entry in entries
        ]
    )


def completion_logprobs(
    tokenizer: Tokenizer, entries: Sequence[PlacedLogprob], *, start: int = 0
) -> CompletionLogprobs:
    """Return the tokens in the shape of completions; `start` is where the completion begins in the choice's text."""
    return CompletionLogprobs(
        tokens=[tokenizer.name(entry.logprob.token) for entry in entries],
        token_logprobs=[entry.logprob.logprob for entry in entries],
        top_logprobs=[_top(tokenizer, entry.logprob) for entry in entries],
        text_offset=[start + entry.offset for entry in entries],
    )


def prompt_logprobs(
    tokenizer: Tokenizer, prompt: Sequence[int], scores: Sequence[TokenLogprob]
) -> Iterator[CompletionLogprobs]:
    """Yield the prompt's tokens in the shape of completions, part by part.

    The first token is not predicted by anything: its entries are null.
    """
    detokenizer, offset = Detokenizer(tokenizer), 0
    entries = [None, *scores]
    for start in range(0, len(prompt), PART):
        offsets = []
        for token in prompt[start : start + PART]:
            offsets.append(offset)
            offset += len(detokenizer.push([token]))
        part = entries[start : start + PART]
        yield CompletionLogprobs(
            tokens=[tokenizer.name(token) for token in prompt[start : start + PART]],
            token_logprobs=[None if score is None else score.logprob for score in part],
            top_logprobs=[None if score is None else _top(tokenizer, score) for score in part],
            text_offset=offsets,
        )


def parts_of(entries: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield a sequence in parts that each take about a millisecond to convert."""
    for start in range(0, len(entries), PART):
        yield entries[start : start + PART]


def _bytes(tokenizer: Tokenizer, token: int) -> list[int] | None:
    raw = tokenizer.token_bytes(token)
    return None if raw is None else list(raw)


def _top(tokenizer: Tokenizer, logprob: TokenLogprob) -> dict[str, float]:
    """Return the most probable tokens; they always include the chosen one."""
    top = {tokenizer.name(token): value for token, value in logprob.top}
    return {**top, tokenizer.name(logprob.token): logprob.logprob}
