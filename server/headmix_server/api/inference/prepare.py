"""The steps that all inference routes share: the model, its limits, its vocabulary, and the engine requests.

A route reads its body, states what the model must be capable of, and shapes the response; the steps in between are
here, in the same order for all routes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request

from headmix_adapters.text.tokenizer import EncodedPair
from headmix_server.api.inference.charging import counted
from headmix_server.api.inference.generation_job import Job, engine_request_id
from headmix_server.api.inference.lengths import context_length
from headmix_server.api.inference.prompts import Room, Vocabulary, splits, truncation_of, vocabulary_of
from headmix_server.api.inference.resolve import Model, resolve_body
from headmix_server.api.inference.tenant_limits import Admission
from headmix_server.api.middleware.body.bounds import bounds_of
from headmix_server.api.middleware.disconnect import end_tasks, until_disconnected
from headmix_server.api.middleware.request_record import RequestRecord, record_of
from headmix_server.api.schemas.body import ModelBody
from headmix_server.api.state import ApiState
from headmix_server.core.errors import InternalError, InvalidRequest
from headmix_server.core.messages import Classified, Classify, Embed, Embedded, EngineReady
from headmix_server.core.types import AdapterRef, EmbeddingParams, SamplingParams, ScaledAdapter
from headmix_server.text.detokenize import NO_MARKERS

A = TypeVar("A", Classified, Embedded)
T = TypeVar("T")

Require = Callable[[Model], object]
"""Refuses a model that lacks the route's capability, with `TaskMismatch`."""

Find = Callable[[Request, ApiState, ModelBody], Awaitable[Model]]
"""Returns the model that a body means, held until the request has ended; raises `ModelNotFound`."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request with its model resolved and held. `context` is the most tokens of a prompt and its completion together.

    `ref` is the adapter as the engine needs it, None for the base alone; its `scale` and the adapters `beside` it
    belong into every message to the engine.
    """

    state: ApiState
    request: Request
    record: RequestRecord
    admission: Admission
    model: Model
    ref: AdapterRef | None
    vocabulary: Vocabulary
    context: int
    beside: tuple[ScaledAdapter, ...] = ()

    @property
    def scale(self) -> float:
        """What the adapter's terms are multiplied by."""
        return self.model.scale

    @property
    def adapter(self) -> AdapterRef:
        """The adapter, on routes that require one."""
        if self.ref is None:
            raise InternalError("the route needs an adapter and has not required one")
        return self.ref

    async def read_inputs(
        self,
        inputs: Sequence[str | Sequence[int]],
        *,
        split: bool | None,
        truncate: int | None = None,
        param: str = "input",
    ) -> list[list[int]]:
        """Return the ids of texts for which nothing is generated, with their tokens reserved.

        With `truncate`, as in `TruncatingBody`, the first tokens of a text stay.

        Raises:
            HeadmixServerError: as `Vocabulary.prompts` and `Admission.reserve`, which name `param`.
        """
        room = Room(self.context, 0, param)
        truncation = truncation_of(truncate, room, keeps_first=True)
        split = splits(self.state, split)
        prompts = await self.vocabulary.prompts(inputs, room, split=split, truncation=truncation)
        await self.admission.reserve(sum(map(len, prompts)), param=param)
        return prompts

    async def read_pairs(
        self, pairs: Sequence[tuple[str, str]], *, split: bool | None, param: str
    ) -> list[EncodedPair]:
        """Return pairs of texts as the base encodes two texts together, with their tokens reserved.

        Raises:
            HeadmixServerError: as `Vocabulary.pairs` and `Admission.reserve`, which name `param`.
        """
        room = Room(self.context, 0, param)
        read = await self.vocabulary.pairs(pairs, room, split=splits(self.state, split))
        await self.admission.reserve(sum(len(pair.ids) for pair in read), param=param)
        return read

    def generation(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingParams,
        *,
        choices: int,
        stops: Sequence[str],
        markers: Mapping[int, str] = NO_MARKERS,
        shows_special: bool = False,
    ) -> Job:
        """Return the job that continues each prompt `choices` times; with `shows_special`, special tokens are text."""
        tokenizer = self.vocabulary.tokenizer
        return Job(
            state=self.state,
            record=self.record,
            tenant=self.admission.tenant,
            weight=self.admission.limits.weight,
            ref=self.ref,
            scale=self.scale,
            beside=self.beside,
            tokenizer=tokenizer.showing_special_tokens() if shows_special else tokenizer,
            prompts=tuple(map(tuple, prompts)),
            sampling=sampling,
            choices=choices,
            stops=tuple(stops),
            markers=markers,
        )

    async def classify(self, prompts: Sequence[list[int]], seconds: Sequence[int] | None = None) -> list[Classified]:
        """Return the scores of each prompt; `seconds` are the places where the second texts of pairs begin.

        Raises:
            InternalError: the route has not required an adapter.
            HeadmixServerError: as `_ask_each`.
        """
        adapter = self.adapter

        def make(name: str, place: int) -> Classify:
            return Classify(
                request_id=name,
                tenant=self.admission.tenant,
                prompt=prompts[place],
                adapter=adapter,
                weight=self.admission.limits.weight,
                scale=self.scale,
                beside=self.beside,
                background=self.record.line is not None,
                second=0 if seconds is None else seconds[place],
            )

        return await self._ask_each(len(prompts), make, Classified)

    async def embed(self, prompts: Sequence[list[int]], params: EmbeddingParams) -> list[Embedded]:
        """Return the vector of each prompt; raises as `_ask_each`."""

        def make(name: str, place: int) -> Embed:
            return Embed(
                request_id=name,
                tenant=self.admission.tenant,
                prompt=prompts[place],
                adapter=self.ref,
                params=params,
                weight=self.admission.limits.weight,
                scale=self.scale,
                beside=self.beside,
                background=self.record.line is not None,
            )

        return await self._ask_each(len(prompts), make, Embedded)

    async def _ask_each(self, count: int, make: Callable[[str, int], Classify | Embed], kind: type[A]) -> list[A]:
        """Return the engine's answer to each prompt; `make` builds the request from a name and the prompt's place.

        The first failure cancels the others.

        Raises:
            ClientGone: the client has disconnected.
            HeadmixServerError: as `Fetcher.download_all` and `EngineClient.ask`.
        """
        name = engine_request_id(self.record)
        messages = [make(f"{name}-{place}", place) for place in range(count)]
        answers = await until_disconnected(self.request, self._ask(messages, kind))
        for answer in answers:
            self.record.queued(answer.queue_seconds)
        return answers

    async def _ask(self, messages: Sequence[Classify | Embed], kind: type[A]) -> list[A]:
        if self.ref is not None:
            await self.state.fetcher.download_all([self.ref, *(one.adapter for one in self.beside)])
        return await _side_by_side(self._ask_one(place, message, kind) for place, message in enumerate(messages))

    async def _ask_one(self, place: int, message: Classify | Embed, kind: type[A]) -> A:
        async with counted(self.record, place, len(message.prompt)) as computed:
            return await self.state.engine.ask(message, kind, computed)


async def prepare(
    request: Request,
    body: ModelBody,
    admission: Admission,
    state: ApiState,
    require: Require = lambda _: None,
    find: Find = resolve_body,
) -> Prepared:
    """Check the body's bounds, resolve and hold its model, and load its vocabulary.

    Raises:
        InvalidRequest: the body exceeds a bound, an adapter was accepted for another base, or as `resolve_body`.
        ModelNotFound: as `resolve_body`.
        TaskMismatch: the model lacks the capability.
        EngineUnavailable, ServerOverloaded: the engine cannot take the request now.
    """
    bounds_of(state.settings).check(body)
    model = await find(request, state, body)
    ref = None if model.version is None else state.library.ref(model.version, admission.tenant, param=model.param)
    beside = tuple(
        ScaledAdapter(
            adapter=state.library.ref(one.version, admission.tenant, param=model.param),
            scale=one.scale,
        )
        for one in model.beside
    )
    require(model)
    ready = state.engine.require_ready()
    _require_slots(model, ready)
    context = context_length(ready)
    vocabulary = await vocabulary_of(request, state, model, admission.tenant)
    return Prepared(state, request, record_of(request), admission, model, ref, vocabulary, context, beside)


def _require_slots(model: Model, ready: EngineReady) -> None:
    """Refuse more adapters than can be on the device at once."""
    number = 1 + len(model.beside)
    if number > max(1, ready.adapter_slots):
        raise InvalidRequest(f"{number} adapters; this server has {ready.adapter_slots} slots.", param=model.param)


async def _side_by_side(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return the results in order; if one fails or this is cancelled, the rest are cancelled and have ended."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await end_tasks(*tasks)
