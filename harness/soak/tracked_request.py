"""One request and its outputs so far, and the rules that every answer must follow."""

from collections.abc import Collection
from dataclasses import dataclass, field

from harness.soak.contents import Content
from headmix_server.core.messages import (
    AdapterLoaded,
    Classified,
    Embedded,
    Failed,
    Generate,
    LoadAdapter,
    Output,
    Request,
    TokenOutput,
)
from headmix_server.core.types import FinishReason, TokenCounts, TokenLogprob

DAMAGED = "damaged by the walk"
"""The reason the walk gives when it makes a load fail."""


class WrongAnswerError(AssertionError):
    """A request got a wrong answer."""


@dataclass(slots=True)
class TrackedRequest:
    """`content` None means the base alone. `excused` are the codes this request may fail with."""

    message: Request | LoadAdapter
    content: Content | None
    excused: set[str] = field(default_factory=set)
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] | None = None
    finish_reason: FinishReason | None = None
    probs: list[float] = field(default_factory=list)
    vector: list[float] = field(default_factory=list)
    failure: Failed | None = None
    ended: bool = False
    aborted: bool = False

    def take(self, output: Output) -> None:
        """Record an output.

        Raises:
            WrongAnswerError: the request has ended or was cancelled, or the output is not a valid answer to it.
        """
        if self.ended or self.aborted:
            self._wrong(f"{output} came after the end")
        self.ended = True
        match output:
            case TokenOutput():
                self._take_tokens(output)
            case Classified():
                self.probs = list(output.probs)
            case Embedded():
                self.vector = list(output.vector)
            case AdapterLoaded():
                if not isinstance(self.message, LoadAdapter) or output.digest != self.message.adapter.digest:
                    self._wrong(f"answered with {output}")
            case Failed():
                self._take_failure(output)

    def take_account(self, counts: TokenCounts) -> None:
        """Check what was computed for a request that was cancelled.

        Raises:
            WrongAnswerError: the counts are impossible.
        """
        if isinstance(self.message, LoadAdapter):
            most_prompt, most_generated = 0, 0
        else:
            sampling = self.message.sampling if isinstance(self.message, Generate) else None
            most_prompt, most_generated = len(self.message.prompt), 0 if sampling is None else sampling.max_tokens
        least_prompt = most_prompt if self.tokens else counts.cached
        sane = len(self.tokens) <= counts.generated <= most_generated and least_prompt <= counts.prompt <= most_prompt
        if not sane:
            self._wrong(f"{counts} were computed, {len(self.tokens)} tokens answered")

    def _take_tokens(self, output: TokenOutput) -> None:
        self.ended = output.finish_reason is not None
        self.finish_reason = output.finish_reason
        if output.prompt_logprobs is not None:
            if self.tokens:
                self._wrong("the prompt's scores came late")
            self.prompt_logprobs = list(output.prompt_logprobs)
        self.tokens.extend(output.tokens)
        self.logprobs.extend(output.logprobs or ())

    def _take_failure(self, output: Failed) -> None:
        self.failure = output
        if output.code not in self.excused and DAMAGED not in output.message:
            self._wrong(f"failed: {output.code}, {output.message}")

    def excuse(self, codes: Collection[str]) -> None:
        """Allow these failures from now on."""
        self.excused.update(codes)

    def _wrong(self, reason: str) -> None:
        name = "base" if self.content is None else f"content {self.content.number}"
        raise WrongAnswerError(f"{self.message.request_id} ({type(self.message).__name__}, {name}): {reason}")
