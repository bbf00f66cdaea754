from datetime import date

from sqlalchemy import Engine

from headmix_server.database import reading, writing
from headmix_server.tenancy.usage.meter import UsageMeter, Used
from headmix_server.tenancy.usage.report import UsageReport
from headmix_server.tenancy.usage.trained import charge_trained, day_of, trained_today

NOW = 1_790_000_000.0
DAY_SECONDS = 24 * 3600


def test_trained_tokens_add_up_by_day_next_to_what_requests_used(engine: Engine) -> None:
    meter = UsageMeter(engine, clock=lambda: NOW)
    meter.add("acme", "tone", Used(requests=1, prompt_tokens=2))
    meter.flush()
    for tokens in (10, 5, 0, -3):
        with writing(engine) as session:
            charge_trained(session, "acme", "tone", tokens, now=NOW)
    with writing(engine) as session:
        charge_trained(session, "acme", "other", 1, now=NOW)
        charge_trained(session, "acme", "tone", 100, now=NOW + DAY_SECONDS)
        charge_trained(session, "someone", "tone", 1000, now=NOW)
    with reading(engine) as session:
        assert trained_today(session, "acme", now=NOW) == 16
        assert trained_today(session, "acme", now=NOW + 2 * DAY_SECONDS) == 0
    meter.add("acme", "tone", Used(requests=1))
    meter.flush()
    day = date.fromisoformat(day_of(NOW))
    lines = UsageReport(engine).lines(tenant="acme", first=day, last=day)
    assert [(line.adapter, line.used.trained_tokens, line.used.requests) for line in lines] == [
        ("other", 1, 0),
        ("tone", 15, 2),
    ]
