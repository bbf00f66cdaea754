"""The headers that report a tenant's rates, in OpenAI's form."""

from headmix_server.tenancy.limits.rates import Verdict


def rate_headers(kind: str, limit: int, verdict: Verdict) -> dict[str, str]:
    """Return limit, remaining and reset of `requests` or `tokens`."""
    return {
        f"x-ratelimit-limit-{kind}": str(limit),
        f"x-ratelimit-remaining-{kind}": str(verdict.remaining),
        f"x-ratelimit-reset-{kind}": span(verdict.reset),
    }


def span(milliseconds: int) -> str:
    """Return a duration as OpenAI writes it: `6m0s`, `1.5s`, `20ms`, `0s`."""
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    seconds = f"{rest / 1000:.3f}".rstrip("0").rstrip(".")
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
