"""One completion as it grows: tokens to text, cut at stop strings, with log-probabilities aligned to the text.

Owns which text and which tokens belong to a completion. It knows neither what computes the tokens nor the shape of
responses.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headmix_server.core.messages import TokenOutput
from headmix_server.core.types import FinishReason, SamplingParams, TokenLogprob
from headmix_server.text.detokenize import NO_MARKERS, Detokenizer
from headmix_server.text.stop import StopMatcher
from headmix_server.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class PlacedLogprob:
    """A token's log-probability, and the character position in the completion's text where the token begins."""

    logprob: TokenLogprob
    offset: int


@dataclass(frozen=True, slots=True)
class Delta:
    """What a completion gained. `num_tokens` counts the new tokens, including those without text.

    The first delta's `cached_tokens` counts the prompt's tokens that were found in the cache. `scores` are the new
    tokens' log-probabilities, if there are any: of all that count, shown or not.
    """

    text: str
    num_tokens: int
    logprobs: tuple[PlacedLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] | None = None
    finish_reason: FinishReason | None = None
    cached_tokens: int = 0
    scores: tuple[float, ...] = ()


class CompletionText:
    """The text that one completion adds to its prompt: tokens in, deltas out, until one has a finish reason.

    `markers` are special tokens that are part of the text.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: Sequence[int],
        sampling: SamplingParams,
        stops: Sequence[str],
        markers: Mapping[int, str] = NO_MARKERS,
    ) -> None:
        self._detokenizer = Detokenizer(tokenizer, prompt, markers)
        self._matcher = StopMatcher(stops)
        ends = frozenset() if sampling.ignore_eos else tokenizer.eos_ids
        self._end_tokens = ends.union(sampling.stop_token_ids)
        self._decoded = 0  # characters decoded, whether shown or held back
        self._shown = 0
        self._waiting: deque[PlacedLogprob] = deque()  # offsets only grow

    def add(self, output: TokenOutput) -> Delta:
        """Return what the output adds. A token that ends the generation is counted but not shown."""
        tokens, reason = output.tokens, output.finish_reason
        if reason is FinishReason.STOP and tokens and tokens[-1] in self._end_tokens:
            tokens = tokens[:-1]
        text, read = self._show(tokens, output.logprobs or ())
        if self._matcher.matched is None and reason is not None:
            text += self._matcher.push(self._detokenizer.flush())
            text += self._matcher.flush()
        if self._matcher.matched is not None:
            reason = FinishReason.STOP
        self._shown += len(text)
        return Delta(
            text=text,
            num_tokens=len(output.tokens),
            logprobs=self._ripe(ended=reason is not None),
            prompt_logprobs=None if output.prompt_logprobs is None else tuple(output.prompt_logprobs),
            finish_reason=reason,
            cached_tokens=output.cached_tokens or 0,
            scores=tuple(score.logprob for score in (output.logprobs or ())[:read]),
        )

    def _show(self, tokens: Sequence[int], logprobs: Sequence[TokenLogprob]) -> tuple[str, int | None]:
        """Return the text that can be shown, and how many tokens count if a stop string ended the text."""
        shown = list[str]()
        for place, token in enumerate(tokens):
            if place < len(logprobs):
                self._waiting.append(PlacedLogprob(logprobs[place], self._decoded))
            text = self._detokenizer.push([token])
            self._decoded += len(text)
            shown.append(self._matcher.push(text))
            if self._matcher.matched is not None:
                return "".join(shown), place + 1
        return "".join(shown), None

    def _ripe(self, *, ended: bool) -> tuple[PlacedLogprob, ...]:
        """Take the tokens whose text is shown; at the end, all except those that a stop string cut off."""
        everything = ended and self._matcher.matched is None
        ripe = []
        while self._waiting and (everything or self._waiting[0].offset < self._shown):
            ripe.append(self._waiting.popleft())
        return tuple(ripe)
