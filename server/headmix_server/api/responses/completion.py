"""A job's output as a completion: OpenAI's older shape, with `echo`."""

import secrets
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from math import fsum

from headmix_server.api.inference.generation_job import Job
from headmix_server.api.responses.chunks import SLOT, ChunkFrame, TextChoice
from headmix_server.api.responses.continuous_usage import ContinuousUsage
from headmix_server.api.responses.logprobs import prompt_logprobs
from headmix_server.api.responses.scores import CompletionScores, completion_scores
from headmix_server.api.responses.sse import Events
from headmix_server.api.schemas.common import GenerationUsage
from headmix_server.api.schemas.completions import Completion, CompletionChoice, CompletionLogprobs, CompletionRequest
from headmix_server.core.types import FinishReason
from headmix_server.text.completion import Delta
from headmix_server.text.detokenize import prompt_text


@dataclass(slots=True)
class _Whole:
    """One choice while it is collected."""

    texts: list[str] = field(default_factory=list)
    scores: CompletionScores = field(default_factory=CompletionScores)
    reason: FinishReason | None = None
    logprobs: list[float] = field(default_factory=list)

    def add(self, delta: Delta, scores: CompletionScores) -> None:
        self.texts.append(delta.text)
        self.reason = delta.finish_reason
        self.scores.append(scores)
        self.logprobs += delta.scores

    @property
    def logprob(self) -> float:
        """The log-probability of all its tokens together, however they were summed up."""
        return fsum(self.logprobs)

    def choice(self, index: int, *, scored: bool) -> TextChoice:
        reason = None if self.reason is None else self.reason.value
        return TextChoice(index, "".join(self.texts), SLOT if scored else None, reason)


@dataclass(frozen=True, slots=True)
class CompletionAnswer:
    """The response bodies of one request. With `max_tokens` 0, a token is computed to read the prompt but not shown."""

    job: Job
    request: CompletionRequest
    id: str = field(default_factory=lambda: f"cmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    async def whole(self) -> list[bytes]:
        """Return the complete response as JSON in pieces; raises as `Job.run`."""
        choices: defaultdict[int, _Whole] = defaultdict(_Whole)
        tokens = 0
        async with aclosing(self._deltas()) as deltas:
            async for index, delta, scores in deltas:
                tokens += delta.num_tokens
                choices[index].add(delta, scores)
        scored = self.request.logprobs is not None
        returned = [choices[index] for index in self._returned(choices)]
        done = [whole.choice(index, scored=scored) for index, whole in enumerate(returned)]
        pieces = [whole.scores.pieces() for whole in returned if scored]
        return ChunkFrame(self._body([], self.job.usage(tokens))).whole(done, pieces)

    async def events(self) -> Events:
        """Yield the events of a stream; raises as `Job.run`."""
        frame = ChunkFrame(self._body([]), None if self.request.include_usage else {"usage"})
        usage = ContinuousUsage(self.job, wanted=self.request.continuous_usage)
        async with aclosing(self._deltas()) as deltas:
            async for index, delta, scores in deltas:
                usage.add(index, delta.num_tokens)
                if delta.text or delta.finish_reason is not None or scores:
                    reason = None if delta.finish_reason is None else delta.finish_reason.value
                    logprobs = None if self.request.logprobs is None else scores.json()
                    yield frame.event(TextChoice(index, delta.text, logprobs, reason), usage.of(index))
        if self.request.include_usage:
            yield self._body([], self.job.usage(usage.total)).model_dump_json()

    def _returned(self, choices: Mapping[int, _Whole]) -> list[int]:
        """Return which choices are returned, in order: all, or each prompt's most probable ones, the best first."""
        if not self.request.ranks:
            return sorted(choices)
        each, n = self.job.choices, self.request.n or 1
        prompts = [range(first, first + each) for first in range(0, len(choices), each)]
        return [
            index
            for prompt in prompts
            for index in sorted(prompt, key=lambda index: choices[index].logprob, reverse=True)[:n]
        ]

    def _body(self, choices: list[CompletionChoice], usage: GenerationUsage | None = None) -> Completion:
        return Completion(id=self.id, created=self.created, model=self.request.model, choices=choices, usage=usage)

    async def _deltas(self) -> AsyncGenerator[tuple[int, Delta, CompletionScores], None]:
        """Yield the job's deltas as this route shows them: after the echoed prompt, or hidden with `max_tokens` 0."""
        prompts: dict[int, str] = {}
        begun: set[int] = set()
        async with aclosing(self.job.run()) as deltas:
            async for index, gained in deltas:
                delta = _hidden(gained) if self.request.scores_only else gained
                first, place = index not in begun, index // self.job.choices
                begun.add(index)
                if place not in prompts:
                    prompts[place] = self._prompt_text(place)
                prompt = prompts[place]
                scores = await self._scores(place, delta, first=first, start=len(prompt))
                yield index, replace(delta, text=prompt + delta.text) if first else delta, scores

    def _prompt_text(self, place: int) -> str:
        """Return the text that a prompt's choices begin with: with `echo`, the prompt."""
        if not self.request.echo:
            return ""
        given, tokenizer = self.request.prompts[place], self.job.tokenizer
        is_whole = self.request.truncate_prompt_tokens is None and self.request.skip_special_tokens is not False
        if isinstance(given, str) and is_whole:
            return given
        prompt = self.job.prompts[place]
        return tokenizer.decode(prompt) if self.request.scores_only else prompt_text(tokenizer, prompt)

    async def _scores(self, place: int, delta: Delta, *, first: bool, start: int) -> CompletionScores:
        if self.request.logprobs is None:
            return CompletionScores()
        tokenizer = self.job.tokenizer
        before: Iterable[CompletionLogprobs] = ()
        if first and self.request.echo:
            before = prompt_logprobs(tokenizer, self.job.prompts[place], delta.prompt_logprobs or ())
        return await completion_scores(tokenizer, delta.logprobs, start=start, before=before)


def _hidden(delta: Delta) -> Delta:
    return replace(delta, text="", num_tokens=0, logprobs=(), finish_reason=FinishReason.LENGTH)
