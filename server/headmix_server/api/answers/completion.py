"""A job as a completion: OpenAI's older shape, with `echo`."""

import secrets
import time
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from headmix_server.api.answers.chunks import ChunkFrame, TextChoice, json_of
from headmix_server.api.answers.continuous_usage import ContinuousUsage
from headmix_server.api.answers.whole import JsonList, json_object
from headmix_server.api.job import Job
from headmix_server.api.logprobs import completion_logprobs, joined, prompt_logprobs
from headmix_server.api.schemas.common import GenerationUsage
from headmix_server.api.schemas.completions import Completion, CompletionChoice, CompletionLogprobs, CompletionRequest
from headmix_server.api.sse import Events
from headmix_server.core.types import FinishReason
from headmix_server.text.completion import Delta
from headmix_server.text.detokenize import prompt_text


@dataclass(slots=True)
class _Whole:
    """One choice while it is gathered."""

    texts: list[str] = field(default_factory=list)
    tokens: JsonList = field(default_factory=JsonList)
    token_logprobs: JsonList = field(default_factory=JsonList)
    top_logprobs: JsonList = field(default_factory=JsonList)
    text_offset: JsonList = field(default_factory=JsonList)
    reason: FinishReason | None = None

    def add(self, delta: Delta, logprobs: CompletionLogprobs | None) -> None:
        self.texts.append(delta.text)
        self.reason = delta.finish_reason
        if logprobs is not None:
            self.tokens.extend(logprobs.tokens)
            self.token_logprobs.extend(logprobs.token_logprobs)
            self.top_logprobs.extend(logprobs.top_logprobs)
            self.text_offset.extend(logprobs.text_offset)

    def choice(self, index: int, *, scored: bool) -> TextChoice:
        logprobs = json_object(
            tokens=self.tokens,
            token_logprobs=self.token_logprobs,
            top_logprobs=self.top_logprobs,
            text_offset=self.text_offset,
        )
        reason = None if self.reason is None else self.reason.value
        return TextChoice(index, "".join(self.texts), logprobs if scored else None, reason)


@dataclass(frozen=True, slots=True)
class CompletionAnswer:
    """The bodies of one request. With `max_tokens` 0 one token is computed, for the prompt's sake, and never shown."""

    job: Job
    request: CompletionRequest
    id: str = field(default_factory=lambda: f"cmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    async def whole(self) -> bytes:
        """Return everything at once, as JSON; raises as `Job.run`."""
        choices: defaultdict[int, _Whole] = defaultdict(_Whole)
        tokens = 0
        async with aclosing(self._deltas()) as deltas:
            async for index, delta, logprobs in deltas:
                tokens += delta.num_tokens
                choices[index].add(delta, logprobs)
        scored = self.request.logprobs is not None
        done = [choices[index].choice(index, scored=scored) for index in sorted(choices)]
        return ChunkFrame(self._body([], self.job.usage(tokens))).whole(done)

    async def events(self) -> Events:
        """Yield the events of a stream; raises as `Job.run`."""
        frame = ChunkFrame(self._body([]), None if self.request.include_usage else {"usage"})
        usage = ContinuousUsage(self.job, wanted=self.request.continuous_usage)
        async with aclosing(self._deltas()) as deltas:
            async for index, delta, logprobs in deltas:
                usage.add(index, delta.num_tokens)
                if delta.text or delta.finish_reason is not None or (logprobs is not None and logprobs.tokens):
                    reason = None if delta.finish_reason is None else delta.finish_reason.value
                    yield frame.event(TextChoice(index, delta.text, json_of(logprobs), reason), usage.of(index))
        if self.request.include_usage:
            yield self._body([], self.job.usage(usage.total)).model_dump_json()

    def _body(self, choices: list[CompletionChoice], usage: GenerationUsage | None = None) -> Completion:
        return Completion(id=self.id, created=self.created, model=self.request.model, choices=choices, usage=usage)

    async def _deltas(self) -> AsyncGenerator[tuple[int, Delta, CompletionLogprobs | None], None]:
        """Yield the job's deltas as this route shows them: behind the prompt, or not at all."""
        prompts = self._prompt_texts()
        begun: set[int] = set()
        async with aclosing(self.job.run()) as deltas:
            async for index, gained in deltas:
                delta = _hidden(gained) if self.request.max_tokens == 0 else gained
                first, prompt = index not in begun, prompts[index]
                begun.add(index)
                logprobs = self._logprobs(index, delta, first=first, start=len(prompt))
                yield index, replace(delta, text=prompt + delta.text) if first else delta, logprobs

    def _prompt_texts(self) -> list[str]:
        """Return what each choice's text begins with: its prompt, with `echo`."""
        if not self.request.echo:
            return [""] * (len(self.request.prompts) * self.job.choices)
        return [self._prompt_text(prompt) for prompt in self.request.prompts for _ in range(self.job.choices)]

    def _prompt_text(self, prompt: str | list[int]) -> str:
        if isinstance(prompt, str):
            return prompt
        tokenizer = self.job.tokenizer
        return tokenizer.decode(prompt) if self.request.max_tokens == 0 else prompt_text(tokenizer, prompt)

    def _logprobs(self, index: int, delta: Delta, *, first: bool, start: int) -> CompletionLogprobs | None:
        if self.request.logprobs is None:
            return None
        tokenizer = self.job.tokenizer
        own = completion_logprobs(tokenizer, delta.logprobs, start=start)
        if not (first and self.request.echo):
            return own
        prompt = self.job.prompts[index // self.job.choices]
        return joined([prompt_logprobs(tokenizer, prompt, delta.prompt_logprobs or ()), own])


def _hidden(delta: Delta) -> Delta:
    return replace(delta, text="", num_tokens=0, logprobs=(), finish_reason=FinishReason.LENGTH)
