"""One sequence: a prompt, the tokens generated for it, and what it holds.

Owns the state of a single request inside the engine; scheduling and accounting are elsewhere.
"""

from collections.abc import Iterable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import assert_never

from headmix_server.core.combination import Combination, combination_of
from headmix_server.core.grammar import Matcher
from headmix_server.core.messages import Classify, Embed, Generate, Request
from headmix_server.core.runner import Lease, Sampled, ScaledLease
from headmix_server.core.types import (
    AdapterRef,
    ClassificationParams,
    EmbeddingParams,
    FinishReason,
    SamplingParams,
    ScaledAdapter,
    TaskParams,
    TokenCounts,
    TokenLogprob,
)
from headmix_server.engine.cache.block_keys import BlockKeys
from headmix_server.engine.speculation.drafter import Drafter


@dataclass(slots=True, eq=False)
class Sequence:
    """A request's life in the engine; `params` defines what is computed for it.

    `tokens` is prompt and output together; `num_computed` of them are in the cache. The remaining work is always
    `tokens[num_computed:]`: prefill, a decode step, or recomputation after preemption. `keys` are the keys of its cache
    blocks (None: they are not shared); `num_cached` of its prompt's tokens were cached when it was first admitted. Its
    tenant has been charged for the first `num_charged` tokens of the prompt, except those found in the cache; finished
    steps have read the first `num_read`. `blocked_since` is when its turn first came while the cache could not hold it.
    `drafter` guesses its next tokens (None: there are no drafts).
    `matcher` is its state in its grammar; a sequence with a grammar cannot start without one.
    `scale` multiplies the terms of its adapter; those of the adapters `beside` it are added. While it runs, it has a
    lease for each: `lease` and, in the same order, `leases_beside`.
    A `background` sequence is computed where the others leave room.
    """

    sequence_id: int
    request_id: str
    tenant: str
    adapter: AdapterRef | None
    tokens: list[int]
    prompt_length: int
    params: TaskParams
    arrived: float
    num_computed: int = 0
    lease: Lease | None = None
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    queue_seconds: float | None = None
    keys: BlockKeys | None = None
    num_cached: int = 0
    num_charged: int = 0
    num_read: int = 0
    blocked_since: float | None = None
    drafter: Drafter | None = None
    matcher: Matcher | None = None
    scale: float = 1.0
    beside: tuple[ScaledAdapter, ...] = ()
    leases_beside: tuple[ScaledLease, ...] = ()
    background: bool = False

    @classmethod
    def from_message(cls, sequence_id: int, message: Request, arrived: float) -> "Sequence":
        """Create the sequence of a request that arrived at the given time (seconds of the engine's clock)."""
        return cls(
            sequence_id=sequence_id,
            request_id=message.request_id,
            tenant=message.tenant,
            adapter=message.adapter,
            tokens=list(message.prompt),
            prompt_length=len(message.prompt),
            params=params_of(message),
            arrived=arrived,
            scale=message.scale,
            beside=message.beside,
            background=message.background,
        )

    @property
    def account(self) -> str:
        """What it waits under and is charged to: its tenant, or the tenant's background work."""
        return account_of(self.tenant, background=self.background)

    @property
    def digest(self) -> str | None:
        """The identity of its adapter, the first of several, or None for the base."""
        return None if self.adapter is None else self.adapter.digest

    @property
    def adapters(self) -> tuple[AdapterRef, ...]:
        """All its adapters, the first one first."""
        return () if self.adapter is None else (self.adapter, *(one.adapter for one in self.beside))

    @property
    def combination(self) -> Combination:
        """What it computes with."""
        if self.adapter is None:
            return None
        first = (self.adapter.digest, self.scale)
        return combination_of([first, *((one.adapter.digest, one.scale) for one in self.beside)])

    @property
    def leases(self) -> tuple[Lease, ...]:
        """All its leases, in the order of its adapters."""
        return () if self.lease is None else (self.lease, *(one.lease for one in self.leases_beside))

    def hold(self, leases: Seq[Lease]) -> None:
        """Take a lease for each adapter, in order; without any, nothing changes."""
        if leases:
            self.lease = leases[0]
            scaled = zip(leases[1:], self.beside, strict=True)
            self.leases_beside = tuple(ScaledLease(lease, one.scale) for lease, one in scaled)

    def give_up(self) -> tuple[Lease, ...]:
        """Return all leases and hold them no longer."""
        leases = self.leases
        self.lease, self.leases_beside = None, ()
        return leases

    @property
    def grammar(self) -> str | None:
        """The grammar that its output must match, or None if it is unconstrained."""
        return grammar_of(self.params)

    @property
    def awaits_grammar(self) -> bool:
        """Whether its grammar is not compiled yet."""
        return self.matcher is None and self.grammar is not None

    @property
    def remaining(self) -> int:
        """Tokens known but not yet computed; never 0 while the sequence lives."""
        return len(self.tokens) - self.num_computed

    @property
    def num_outputs(self) -> int:
        """Number of tokens generated so far."""
        return len(self.tokens) - self.prompt_length

    @property
    def needs_every_state(self) -> bool:
        """Whether the result depends on more than the last token's state, so that no state may be skipped.

        True for every classification, because only its adapter knows the pooling.
        """
        match self.params:
            case SamplingParams():
                return self.scores_prompt and self.num_outputs == 0
            case ClassificationParams():
                return True
            case EmbeddingParams(pooling=pooling):
                return pooling != "last"
            case _:
                assert_never(self.params)

    @property
    def scores_prompt(self) -> bool:
        """Whether the log-probabilities of its prompt are requested."""
        match self.params:
            case SamplingParams(prompt_logprobs=prompt_logprobs):
                return prompt_logprobs
            case ClassificationParams() | EmbeddingParams():
                return False
            case _:
                assert_never(self.params)

    @property
    def max_outputs(self) -> int:
        """The most tokens that may be generated for it."""
        return most_outputs(self.params)

    def counts(self) -> TokenCounts:
        """Return what was computed for the request so far."""
        cached = min(self.num_cached, self.num_read)
        return TokenCounts(prompt=self.num_read, cached=cached, generated=self.num_outputs)

    def read_up_to(self, end: int) -> None:
        """Record that a step has computed the tokens before `end`."""
        self.num_read = max(self.num_read, min(end, self.prompt_length))

    def gain(self, sampled: Iterable[Sampled], eos_ids: frozenset[int]) -> tuple[list[Sampled], FinishReason | None]:
        """Append tokens up to the one that ends the generation; returns those appended, and the reason if it ended.

        Raises:
            GrammarError: the grammar does not allow a token.
        """
        gained: list[Sampled] = []
        for token in sampled:
            self.tokens.append(token.token)
            gained.append(token)
            complete = self.matcher is not None and self.matcher.advance(token.token)
            reason = FinishReason.STOP if complete else self.finish_reason(eos_ids)
            if reason is not None:
                return gained, reason
        return gained, None

    def finish_reason(self, eos_ids: frozenset[int]) -> FinishReason | None:
        """Return the reason if the last token ends the generation, None if it does not."""
        match self.params:
            case SamplingParams() as sampling:
                return _finish_reason(sampling, self.tokens[-1], self.num_outputs, eos_ids)
            case ClassificationParams() | EmbeddingParams():
                return None
            case _:
                assert_never(self.params)


def account_of(tenant: str, *, background: bool) -> str:
    """Return the name of a tenant's account; no tenant's name has a slash."""
    return f"{tenant}/background" if background else tenant


def params_of(message: Request) -> TaskParams:
    """Return what a request asks to compute."""
    match message:
        case Generate(sampling=sampling):
            return sampling
        case Classify(second=second):
            return ClassificationParams(second=second)
        case Embed(params=params):
            return params
        case _:
            assert_never(message)


def generates(params: TaskParams) -> bool:
    """Return whether tokens are generated for a request, rather than its text only being read."""
    match params:
        case SamplingParams():
            return True
        case ClassificationParams() | EmbeddingParams():
            return False
        case _:
            assert_never(params)


def most_outputs(params: TaskParams) -> int:
    """Return the most tokens that may be generated for a request; 0 for a text that is only read."""
    match params:
        case SamplingParams(max_tokens=max_tokens):
            return max_tokens
        case ClassificationParams() | EmbeddingParams():
            return 0
        case _:
            assert_never(params)


def grammar_of(params: TaskParams) -> str | None:
    """Return the grammar that the output of a request must match, or None if it is unconstrained."""
    match params:
        case SamplingParams(grammar=grammar):
            return grammar
        case ClassificationParams() | EmbeddingParams():
            return None
        case _:
            assert_never(params)


def _finish_reason(
    sampling: SamplingParams, last: int, num_outputs: int, eos_ids: frozenset[int]
) -> FinishReason | None:
    if num_outputs == 0:
        return None
    if last in sampling.stop_token_ids or (last in eos_ids and not sampling.ignore_eos):
        return FinishReason.STOP
    return FinishReason.LENGTH if num_outputs >= sampling.max_tokens else None
