"""The outputs that the engine sends about a sequence: its tokens, its result, or why it failed."""

from collections.abc import Sequence as Seq

from headmix_server.core.messages import Classified, Embedded, Failed, TokenOutput
from headmix_server.core.runner import Sampled
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


def classified(sequence: Sequence, probs: Seq[float]) -> Classified:
    """Return the output of a classification."""
    return Classified(request_id=sequence.request_id, probs=list(probs), queue_seconds=sequence.queue_seconds)


def embedded(sequence: Sequence, vector: Seq[float]) -> Embedded:
    """Return the output of an embedding."""
    return Embedded(request_id=sequence.request_id, vector=list(vector), queue_seconds=sequence.queue_seconds)


def failed(sequence: Sequence, code: str, message: str) -> Failed:
    """Return the output of a sequence that failed."""
    return Failed(request_id=sequence.request_id, code=code, message=message, counts=sequence.counts())


def adapter_name(sequence: Sequence) -> str | None:
    """Return the adapters' names and versions as clients write them, or None for the base alone."""
    return " + ".join(f"{ref.name}@{ref.version}" for ref in sequence.adapters) or None
