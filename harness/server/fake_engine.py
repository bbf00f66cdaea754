"""The engine's end of the socket, in the test's own process: it sends what the test wants, when the test wants it."""

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar

import zmq
import zmq.asyncio

from headmix_server.core.messages import (
    Abort,
    Aborted,
    AdapterLoaded,
    Classified,
    Classify,
    Embed,
    Embedded,
    EngineReady,
    FromEngine,
    Generate,
    LoadAdapter,
    Output,
    Outputs,
    ToEngine,
    TokenOutput,
    decode_to_engine,
    encode,
)
from headmix_server.core.types import FinishReason, SamplingParams, TokenCounts, TokenLogprob

M = TypeVar("M")

READY = EngineReady(pid=1, max_model_len=256, kv_blocks=64, block_size=16, adapter_slots=4)
EOS = 2


class FakeEngine:
    """Connects to an endpoint. While `answering`, it answers with `answer`; otherwise the test answers, with `send`.

    While `stopping`, it reports for every aborted request that no more was computed than was sent; otherwise the test
    does, with `stop`.

    `received` has every message in order of arrival.
    """

    def __init__(self, endpoint: str, *, ready: EngineReady | None = READY) -> None:
        self.received: list[ToEngine] = []
        self.answering = True
        self.stopping = True
        self.reply: list[int] = []
        self.probs: list[float] = []
        self.vector: list[float] = []
        self.answer: Callable[[ToEngine], Sequence[Output]] = self._default_answer
        self._ready = ready
        self._said: dict[str, TokenCounts] = {}
        self._endpoint = endpoint
        self._arrived = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.PAIR)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(self._endpoint)
        if self._ready is not None:
            await self.say(self._ready)
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        self._socket.close()
        self._context.term()

    async def say(self, message: FromEngine) -> None:
        """Send one message."""
        await self._socket.send(encode(message))

    async def send(self, *outputs: Output) -> None:
        """Send the outputs of one step."""
        for output in outputs:
            self._count(output)
        await self.say(Outputs(items=list(outputs)))

    def _count(self, output: Output) -> None:
        """Count what was sent for a request, as if the engine had computed that and nothing more."""
        lengths = {m.request_id: len(m.prompt) for m in self.of(Generate)}
        if isinstance(output, TokenOutput):
            before = self._said.get(output.request_id, TokenCounts())
            self._said[output.request_id] = TokenCounts(
                prompt=lengths.get(output.request_id, 0),
                cached=before.cached if output.cached_tokens is None else output.cached_tokens,
                generated=before.generated + len(output.tokens),
            )

    async def send_bytes(self, frame: bytes) -> None:
        """Send a frame that need not be a message."""
        await self._socket.send(frame)

    def of(self, kind: type[M]) -> list[M]:
        """Return the messages of a kind received so far."""
        return [message for message in self.received if isinstance(message, kind)]

    async def expect(self, kind: type[M], count: int = 1) -> list[M]:
        """Wait until `count` messages of a kind have arrived and return all of that kind."""
        await self.comes_to(lambda: len(self.of(kind)) >= count)
        return self.of(kind)

    async def comes_to(self, condition: Callable[[], bool]) -> None:
        """Wait until the messages received so far satisfy a condition."""
        async with self._arrived, asyncio.timeout(10):
            await self._arrived.wait_for(condition)

    async def _read(self) -> None:
        while True:
            message = decode_to_engine(await self._socket.recv())
            async with self._arrived:
                self.received.append(message)
                self._arrived.notify_all()
            if self.answering:
                for output in self.answer(message):
                    await self.send(output)
            if isinstance(message, Abort) and self.stopping:
                await self.stop(message.request_id)

    def _default_answer(self, message: ToEngine) -> Sequence[Output]:
        match message:
            case Generate():
                return generated(message, self.reply)
            case Classify():
                return [Classified(request_id=message.request_id, probs=self.probs, queue_seconds=0.25)]
            case Embed():
                return [Embedded(request_id=message.request_id, vector=self.vector, queue_seconds=0.25)]
            case LoadAdapter():
                return [AdapterLoaded(request_id=message.request_id, digest=message.adapter.digest, seconds=0.5)]
            case _:
                return []

    async def stop(self, request_id: str, counts: TokenCounts | None = None) -> None:
        """Send what was computed for an aborted request: by default, what was sent for it."""
        counts = self._said.get(request_id, TokenCounts()) if counts is None else counts
        await self.say(Outputs(items=[], aborted=[Aborted(request_id=request_id, counts=counts)]))

    async def aborted(self) -> set[str]:
        """Wait until every request received so far has been aborted; return their ids."""
        requests = {m.request_id for m in self.received if isinstance(m, Generate | Classify | Embed)}
        await self.expect(Abort, len(requests))
        aborted = {message.request_id for message in self.of(Abort)}
        assert aborted == requests
        return aborted


def generated(message: Generate, reply: Sequence[int]) -> list[Output]:
    """Return the outputs of a generation of `reply`, one token per step, followed by the end token."""
    sampling, outputs = message.sampling, list[Output]()
    for place, token in enumerate([*reply, EOS][: sampling.max_tokens]):
        last = place + 1 == sampling.max_tokens
        reason = FinishReason.STOP if token == EOS else FinishReason.LENGTH if last else None
        outputs.append(
            TokenOutput(
                request_id=message.request_id,
                tokens=[token],
                logprobs=[logprob(token, sampling)] if sampling.logprobs is not None else None,
                prompt_logprobs=_prompt_logprobs(message) if place == 0 else None,
                finish_reason=reason,
                queue_seconds=0.25 if place == 0 else None,
                cached_tokens=len(message.prompt) // 2 if place == 0 else None,
            )
        )
    return outputs


def logprob(token: int, sampling: SamplingParams) -> TokenLogprob:
    """Return a log-probability that depends on the token, with the token and the next ids as the most probable."""
    top = tuple((token + place, -(token + place) / 1000) for place in range(sampling.logprobs or 0))
    return TokenLogprob(token=token, logprob=-token / 1000, top=top)


def _prompt_logprobs(message: Generate) -> list[TokenLogprob] | None:
    if not message.sampling.prompt_logprobs or len(message.prompt) == 1:
        return None
    return [logprob(token, message.sampling) for token in message.prompt[1:]]
