"""The generation that a request asks for: its prompts and choices, as concurrent engine requests.

Both generation routes create a job and read the same stream from it; only the bodies around it differ.
"""

import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from time import monotonic

from headmix_server.api.inference.charging import counted
from headmix_server.api.inference.fan_in import fan_in
from headmix_server.api.middleware.request_record import RequestRecord
from headmix_server.api.schemas.common import GenerationUsage, PromptTokensDetails
from headmix_server.api.state import ApiState
from headmix_server.core.messages import Generate, TokenOutput
from headmix_server.core.sampling import for_choice
from headmix_server.core.types import AdapterRef, SamplingParams, ScaledAdapter
from headmix_server.text.completion import CompletionText, Delta
from headmix_server.text.detokenize import NO_MARKERS
from headmix_server.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Job:
    """Every prompt `choices` times. Choice i of prompt p has the index `p * choices + i`.

    `ref` is the adapter, None for the base alone, with its `scale` and the adapters `beside` it. `weight` is the
    tenant's share relative to others. `tokenizer` is the model's own, including the tokens its adapter adds; `markers`
    are special tokens that are part of the text.
    """

    state: ApiState
    record: RequestRecord
    tenant: str
    weight: float
    ref: AdapterRef | None
    tokenizer: Tokenizer
    prompts: tuple[tuple[int, ...], ...]
    sampling: SamplingParams
    choices: int
    stops: tuple[str, ...]
    markers: Mapping[int, str] = field(default_factory=lambda: NO_MARKERS)
    scale: float = 1.0
    beside: tuple[ScaledAdapter, ...] = ()

    def run(self) -> AsyncGenerator[tuple[int, Delta], None]:
        """Yield (index, delta) of all choices as they arrive; closing it, or the failure of one choice, aborts all.

        Raises:
            HeadmixServerError: as `Fetcher.download_all` and `EngineClient.generate`.
        """
        name = engine_request_id(self.record)
        return fan_in(
            [
                self._complete(name, prompt, choice)
                for prompt in range(len(self.prompts))
                for choice in range(self.choices)
            ]
        )

    @property
    def num_prompt_tokens(self) -> int:
        """The number of tokens in all prompts, each prompt counted once."""
        return sum(map(len, self.prompts))

    def usage(self, completion_tokens: int) -> GenerationUsage:
        """Return the counts in OpenAI's shape."""
        prompt = self.num_prompt_tokens
        return GenerationUsage(
            prompt_tokens=prompt,
            completion_tokens=completion_tokens,
            total_tokens=prompt + completion_tokens,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=sum(self.record.cached_tokens.values())),
        )

    async def _complete(self, name: str, prompt: int, choice: int) -> AsyncGenerator[Delta, None]:
        """Yield one completion's deltas; the last has a finish reason. Closing it early aborts the engine's work.

        All the engine computes is counted, or up to the token that completed a stop string.
        """
        message = self._message(name, prompt, choice)
        async with counted(self.record, prompt, len(message.prompt), first=choice == 0) as computed:
            if message.adapter is not None:
                await self.state.fetcher.download_all([message.adapter, *(one.adapter for one in message.beside)])
            text = CompletionText(self.tokenizer, message.prompt, message.sampling, self.stops, self.markers)
            last: float | None = None
            num_tokens = 0
            async with aclosing(self.state.engine.generate(message, computed)) as outputs:
                async for output in outputs:
                    last = self._observe(output, last)
                    delta = text.add(output)
                    num_tokens += delta.num_tokens
                    if choice == 0:
                        self.record.cached_tokens.setdefault(prompt, delta.cached_tokens)
                    if delta.finish_reason is not None:
                        computed.end_after(num_tokens)
                    yield delta
                    if delta.finish_reason is not None:
                        return

    def _observe(self, output: TokenOutput, last: float | None) -> float:
        """Record when tokens arrived; return the time."""
        now, record = monotonic(), self.record
        if last is None:
            record.queued(output.queue_seconds)
            record.first_token_seconds = record.first_token_seconds or now - record.began
        if record.line is not None:
            return now  # nobody waits for it
        if last is None:
            self.state.metrics.first_token(now - record.began)
        else:
            self.state.metrics.inter_token((now - last) / max(1, len(output.tokens)))
        return now

    def _message(self, name: str, prompt: int, choice: int) -> Generate:
        return Generate(
            request_id=f"{name}-{prompt * self.choices + choice}",
            tenant=self.tenant,
            prompt=list(self.prompts[prompt]),
            adapter=self.ref,
            sampling=for_choice(self.sampling, choice),
            weight=self.weight,
            scale=self.scale,
            beside=self.beside,
            background=self.record.line is not None,
        )


def engine_request_id(record: RequestRecord) -> str:
    """Return a unique name for engine requests that can be traced to the client's request."""
    return f"{record.request_id}.{secrets.token_hex(8)}"
