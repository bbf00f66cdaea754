"""What the body of a line's answer tells: the tokens it took, or the code of its error."""

import msgspec

from headmix_server.batches.line import Answer
from headmix_server.batches.request import Counts, Tokens
from headmix_server.core.types import Frozen


class _Details(Frozen, frozen=True):
    cached_tokens: int = 0


class _Usage(Frozen, frozen=True):
    prompt_tokens: int | None = None
    input_tokens: int | None = None
    completion_tokens: int | None = None
    output_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None


class _ErrorCode(Frozen, frozen=True):
    code: str | None = None


class _Answered(Frozen, frozen=True):
    usage: _Usage | None = None
    error: _ErrorCode | None = None


_ANSWERED = msgspec.json.Decoder(_Answered)


def error_code(answer: Answer) -> str | None:
    """Return the code of an answer's error; None if it is none, or names no code."""
    read = _read(answer)
    return None if answer.is_ok or read is None or read.error is None else read.error.code


def counts_of(answer: Answer) -> Counts:
    """Return what an answer adds to its batch's counts: a line, and the tokens it took."""
    read = _read(answer) if answer.is_ok else None
    usage = None if read is None else read.usage
    if usage is None:
        return Counts(completed=int(answer.is_ok), failed=int(not answer.is_ok))
    details = usage.prompt_tokens_details or usage.input_tokens_details or _Details()
    tokens = Tokens(
        prompt=usage.prompt_tokens or usage.input_tokens or 0,
        cached=details.cached_tokens,
        completion=usage.completion_tokens or usage.output_tokens or 0,
    )
    return Counts(completed=1, tokens=tokens)


def _read(answer: Answer) -> _Answered | None:
    try:
        return _ANSWERED.decode(answer.body)
    except msgspec.MsgspecError:
        return None
