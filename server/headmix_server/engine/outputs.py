"""The outputs that the engine sends about a sequence: its tokens, its result, or why it failed."""

from typing import assert_never

from headmix_server.core.errors import NumericalError
from headmix_server.core.messages import Classified, Embedded, Failed, TokenOutput
from headmix_server.core.runner import Pooled, RowFailed, Sampled, Scored
from headmix_server.core.types import FinishReason
from headmix_server.engine.sequence import Sequence


def token_output(sequence: Sequence, sampled: Sampled, reason: FinishReason | None, *, first: bool) -> TokenOutput:
    """Return the output of one token; the `first` one takes the prompt's log-probabilities with it."""
    output = TokenOutput(
        request_id=sequence.request_id,
        tokens=[sampled.token],
        logprobs=None if sampled.logprob is None else [sampled.logprob],
        prompt_logprobs=sequence.prompt_logprobs if first and sequence.scores_prompt else None,
        finish_reason=reason,
        queue_seconds=sequence.queue_seconds if first else None,
        cached_tokens=sequence.num_cached if first else None,
    )
    if first:
        sequence.prompt_logprobs = []
    return output


def result_output(sequence: Sequence, result: Scored | Pooled) -> Classified | Embedded:
    """Return the output of a classification or an embedding."""
    name, seconds = sequence.request_id, sequence.queue_seconds
    match result:
        case Scored(probs):
            return Classified(request_id=name, probs=list(probs), queue_seconds=seconds)
        case Pooled(vector):
            return Embedded(request_id=name, vector=list(vector), queue_seconds=seconds)
        case _:
            assert_never(result)


def failed(sequence: Sequence, code: str, message: str) -> Failed:
    """Return the output of a sequence that failed."""
    return Failed(request_id=sequence.request_id, code=code, message=message, counts=sequence.counts())


def failure_text(sequence: Sequence, failure: RowFailed) -> str:
    """Return why a row failed; numbers that are not finite are blamed on the adapters, or on the base alone."""
    if failure.code != NumericalError.code:
        return failure.message
    name = adapter_name(sequence)
    whose = "Adapters" if sequence.beside else "Adapter"
    return f"The base: {failure.message}." if name is None else f"{whose} {name!r}: {failure.message}."


def adapter_name(sequence: Sequence) -> str | None:
    """Return the adapters' names and versions as clients write them, or None for the base alone."""
    return " + ".join(f"{ref.name}@{ref.version}" for ref in sequence.adapters) or None
