"""Log-probabilities in OpenAI's two shapes: parallel lists for completions, one object a token for chat."""

from collections.abc import Sequence

from headmix_server.api.schemas.chat import ChatLogprobs, ChatTokenLogprob, TopLogprob
from headmix_server.api.schemas.completions import CompletionLogprobs
from headmix_server.core.types import TokenLogprob
from headmix_server.text.completion import PlacedLogprob
from headmix_server.text.detokenize import Detokenizer
from headmix_server.text.tokenizer import Tokenizer


def chat_logprobs(tokenizer: Tokenizer, entries: Sequence[PlacedLogprob]) -> ChatLogprobs:
    """Return the tokens in chat's shape."""
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
    """Return the tokens in the completions' shape; `start` is where the completion begins in the choice's text."""
    return CompletionLogprobs(
        tokens=[tokenizer.name(entry.logprob.token) for entry in entries],
        token_logprobs=[entry.logprob.logprob for entry in entries],
        top_logprobs=[_top(tokenizer, entry.logprob) for entry in entries],
        text_offset=[start + entry.offset for entry in entries],
    )


def prompt_logprobs(tokenizer: Tokenizer, prompt: Sequence[int], scores: Sequence[TokenLogprob]) -> CompletionLogprobs:
    """Return the prompt's tokens in the completions' shape. Nothing predicts the first: its entries are null."""
    detokenizer, offset, offsets = Detokenizer(tokenizer), 0, []
    for token in prompt:
        offsets.append(offset)
        offset += len(detokenizer.push([token]))
    return CompletionLogprobs(
        tokens=[tokenizer.name(token) for token in prompt],
        token_logprobs=[None, *(score.logprob for score in scores)],
        top_logprobs=[None, *(_top(tokenizer, score) for score in scores)],
        text_offset=offsets,
    )


def joined(parts: Sequence[CompletionLogprobs]) -> CompletionLogprobs:
    """Return several parts of one choice as one."""
    return CompletionLogprobs(
        tokens=[token for part in parts for token in part.tokens],
        token_logprobs=[logprob for part in parts for logprob in part.token_logprobs],
        top_logprobs=[top for part in parts for top in part.top_logprobs],
        text_offset=[offset for part in parts for offset in part.text_offset],
    )


def _bytes(tokenizer: Tokenizer, token: int) -> list[int] | None:
    raw = tokenizer.token_bytes(token)
    return None if raw is None else list(raw)


def _top(tokenizer: Tokenizer, logprob: TokenLogprob) -> dict[str, float]:
    """Return the likeliest tokens; the chosen one is always among them."""
    top = {tokenizer.name(token): value for token, value in logprob.top}
    return {**top, tokenizer.name(logprob.token): logprob.logprob}
