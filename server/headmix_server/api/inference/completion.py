"""One completion of a request: its adapter fetched, its tokens computed, its times noted, its deltas as they come."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from time import monotonic

from headmix_server.api.middleware.request_record import RequestRecord
from headmix_server.api.state import ApiState
from headmix_server.core.messages import Generate, TokenOutput
from headmix_server.engine_client.computed import Computed
from headmix_server.text.completion import CompletionText, Delta
from headmix_server.text.tokenizer import Tokenizer


async def complete(
    state: ApiState,
    tokenizer: Tokenizer,
    message: Generate,
    stops: Sequence[str],
    record: RequestRecord,
    computed: Computed,
) -> AsyncGenerator[Delta, None]:
    """Yield one completion's deltas; the last has a finish reason. Closing it early aborts the engine's work.

    `computed` counts what the engine computes: all of it, or up to the token that completed a stop string.

    Raises:
        HeadmixServerError: as `Fetcher.fetch` and `EngineClient.generate`.
    """
    if message.adapter is not None:
        await state.fetcher.fetch(message.adapter.digest, message.adapter.tenant)
    text = CompletionText(tokenizer, message.prompt, message.sampling, stops)
    last: float | None = None
    num_tokens = 0
    async with aclosing(state.engine.generate(message, computed)) as outputs:
        async for output in outputs:
            last = _observe(state, record, output, last)
            delta = text.add(output)
            num_tokens += delta.num_tokens
            if delta.finish_reason is not None:
                computed.end_after(num_tokens)
            yield delta
            if delta.finish_reason is not None:
                return


def _observe(state: ApiState, record: RequestRecord, output: TokenOutput, last: float | None) -> float:
    """Note when tokens came; return the time."""
    now = monotonic()
    if last is None:
        record.queued(output.queue_seconds)
        record.first_token_seconds = record.first_token_seconds or now - record.began
        state.metrics.first_token(now - record.began)
    else:
        state.metrics.inter_token((now - last) / max(1, len(output.tokens)))
    return now
