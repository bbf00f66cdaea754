"""Admits a request within its tenant's limits: counted when it begins, settled when it ends.

Owns the order of the checks and the messages of the refusals. The limit of the whole server is `engine_client`'s.
"""

import asyncio
from math import ceil
from typing import Annotated

from fastapi import Depends, Request

from headmix_server.api.dependencies import InferenceKey, State
from headmix_server.api.inference.rate_headers import rate_headers
from headmix_server.api.middleware.request_record import RequestRecord, record_of
from headmix_server.api.state import ApiState
from headmix_server.core.errors import InvalidRequest, RateLimitExceeded
from headmix_server.tenancy.limits.limits import LIMIT_WORDS, Limits
from headmix_server.tenancy.limits.rates import Charge, Verdict

RETRY_CONCURRENT = 1
"""In seconds, if too many requests are open; a guess, since there is no way to know when one will end."""
LINES_SHARE = 0.8
"""The part of a rate per minute that lines of batches use: the rest is left to requests that cannot wait."""
_KEY = "headmix.admission"


class Admission:
    """One admitted request. `limits` are its tenant's at the time it arrived."""

    def __init__(self, state: ApiState, record: RequestRecord, tenant: str, limits: Limits) -> None:
        self._state = state
        self._record = record
        self._request: Charge | None = None
        self._tokens: Charge | None = None
        self._reserved = 0
        self.tenant = tenant
        self.limits = limits

    async def begin(self) -> None:
        """Count the request among the tenant's open ones and in its rate per minute.

        A line of a batch waits for the rates, and is not counted among the open ones: its batch bounds them.

        Raises:
            RateLimitExceeded: too many are open, or were made in the last minute.
        """
        most = self.limits.concurrent_requests
        if self._record.line is None and not self._state.open_requests.enter(self.tenant, most):
            message = f"The tenant has {most} open requests, the most it may have at once."
            raise RateLimitExceeded(message, limit="concurrent_requests", retry_after=RETRY_CONCURRENT)
        self._record.at_end(self._end)
        if self.limits.requests_per_minute:
            self._request = await self._take("requests", "requests_per_minute", 1)

    async def reserve(self, prompt: int, completion: int = 0, *, param: str, completion_param: str = "") -> None:
        """Take the most tokens the request can use from the tenant's rate per minute; the end returns unused ones.

        `prompt` and `completion` count the tokens of all its prompts and completions; `param` and `completion_param`
        name the parameters that an error blames.

        Raises:
            InvalidRequest: a request of this tenant may not use that many tokens.
            RateLimitExceeded: fewer are left, or the rate per minute is below the request's cost.
        """
        cost, most = prompt + completion, self.limits.tokens_per_request
        if most and cost > most:
            raise InvalidRequest(
                f"A request of this tenant may use {most} tokens, but {cost} were requested: "
                f"{prompt} in the prompt and {completion} for the completion.",
                param=completion_param if completion_param and prompt < most else param,
            )
        if self.limits.tokens_per_minute:
            try:
                self._tokens = await self._take("tokens", "tokens_per_minute", cost)
            except (RateLimitExceeded, asyncio.CancelledError):  # a batch may drop a line that waits
                await self._give_request_back()
                raise
            self._reserved = cost

    def room(self, prompt: int) -> int | None:
        """Return the most tokens a request with this prompt may use for its completions; None means no limit."""
        each = [most for most in (self.limits.tokens_per_request, self.limits.tokens_per_minute) if most]
        return max(0, min(each) - prompt) if each else None

    async def _take(self, kind: str, limit: str, cost: int) -> Charge:
        most: int = getattr(self.limits, limit)
        if cost > most:
            message = f"The request is too large for the tenant's {LIMIT_WORDS[limit]}: limit {most}, requested {cost}."
            raise RateLimitExceeded(message, limit=limit)
        if self._record.line is not None:
            with self._record.line.rest():
                return await self._take_patiently(kind, cost, most)
        verdict = await self._state.rates.take(self.tenant, kind, cost, most)
        self._record.headers.update(rate_headers(kind, most, verdict))
        if verdict.charge is None:
            raise _over(limit, most, cost, verdict)
        return verdict.charge

    async def _take_patiently(self, kind: str, cost: int, most: int) -> Charge:
        """Take a cost as soon as there is room for it."""
        most = max(cost, int(most * LINES_SHARE))
        while True:
            verdict = await self._state.rates.take(self.tenant, kind, cost, most)
            if verdict.charge is not None:
                return verdict.charge
            await asyncio.sleep(max(verdict.wait, 1) / 1000)

    async def _give_request_back(self) -> None:
        """Refund a request refused for its tokens, so that its retry doesn't find the minute used up."""
        if self._request is not None:
            await self._state.rates.give_back(self._request, 1)
            name = "x-ratelimit-remaining-requests"
            if name in self._record.headers:
                self._record.headers[name] = str(int(self._record.headers[name]) + 1)

    async def _end(self) -> None:
        if self._record.line is None:
            self._state.open_requests.leave(self.tenant)
        unused = self._reserved - self._record.prompt_tokens - self._record.generation_tokens
        if self._tokens is not None and unused > 0:
            await self._state.rates.give_back(self._tokens, unused)


def _over(limit: str, most: int, cost: int, verdict: Verdict) -> RateLimitExceeded:
    seconds = ceil(verdict.wait / 1000)
    message = (
        f"Over the tenant's {LIMIT_WORDS[limit]}: limit {most}, left {verdict.remaining}, requested {cost}. "
        f"Try again in {seconds} s."
    )
    return RateLimitExceeded(message, limit=limit, retry_after=seconds)


async def admit(request: Request, principal: InferenceKey, state: State) -> Admission:
    """Admit an inference request, once, or refuse it by its tenant's limits.

    Raises:
        RateLimitExceeded: see `Admission.begin`.
    """
    record, tenant = record_of(request), principal.tenant
    begun = request.scope["state"].get(_KEY)
    if isinstance(begun, Admission):
        return begun
    limits = state.limits.remembered(tenant)
    if limits is None:
        limits = await state.threads.authenticate(state.limits.of, tenant)
    admission = request.scope["state"][_KEY] = Admission(state, record, tenant, limits)
    await admission.begin()
    return admission


Admitted = Annotated[Admission, Depends(admit)]
