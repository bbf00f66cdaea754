"""Owns the decision whether, and after how long, to retry a failed request. Pure: neither sleeps nor sends."""

import random
from dataclasses import dataclass

from headmix.config import RETRY_AFTER_MAX, RETRY_INITIAL_DELAY, RETRY_MAX_DELAY
from headmix.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    HeadmixError,
    RateLimitError,
    ServiceUnavailableError,
)

_JITTER = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `max_retries` additional attempts, with exponential backoff and jitter."""

    max_retries: int

    def delay(self, attempt: int, error: HeadmixError, repeatable: bool) -> float | None:
        """Return the seconds to wait before retrying after attempt number `attempt` (from 0) failed; None: give up.

        `repeatable` says whether the request is idempotent. If not, it is only retried when the server cannot have
        acted on it: it never arrived, or was rejected with 429 or 503.
        """
        if attempt >= self.max_retries or not _may_repeat(error, repeatable):
            return None
        asked = error.retry_after if isinstance(error, APIError) else None
        if asked is not None:
            return asked if asked <= RETRY_AFTER_MAX else None
        backoff = min(RETRY_INITIAL_DELAY * 2.0**attempt, RETRY_MAX_DELAY)
        return backoff * _JITTER.uniform(0.5, 1.0)


def _may_repeat(error: HeadmixError, repeatable: bool) -> bool:
    if isinstance(error, APIConnectionError):
        if not error.sent:
            return True
        # The server may still be working on a request that timed out; a second one would only add to its load.
        return repeatable and not isinstance(error, APITimeoutError)
    return isinstance(error, RateLimitError | ServiceUnavailableError) and error.detail.should_retry
