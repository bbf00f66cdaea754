"""How long the audit log is kept."""

import pytest
from sqlalchemy import Engine

from headmix_server.database import audit, audit_log, remove_audit, writing
from headmix_server.database.audit_log import DAY_SECONDS, AuditLog, Retention

NOW = 1_800_000_000.0


def fill(engine: Engine, monkeypatch: pytest.MonkeyPatch, ages: list[int]) -> None:
    """Write one change per age in days, the oldest first."""
    for age in ages:
        monkeypatch.setattr("time.time", lambda age=age: NOW - age * DAY_SECONDS)
        with writing(engine) as session:
            audit(session, "key_1", "acme", "adapter.publish", f"{age}")
    monkeypatch.undo()


def kept(log: AuditLog) -> list[str]:
    return [entry.subject for entry in log.entries(tenant=None, before=None, limit=1000)]


@pytest.mark.parametrize(
    ("retention", "left"),
    [
        (Retention(), ["1", "2", "5", "30", "400"]),
        (Retention(days=10), ["1", "2", "5"]),
        (Retention(rows=2), ["1", "2"]),
        (Retention(days=3, rows=4), ["1", "2"]),
        (Retention(days=500, rows=5), ["1", "2", "5", "30", "400"]),
        (Retention(rows=1), ["1"]),
    ],
)
@pytest.mark.parametrize("batch", [1000, 2])
def test_rows_beyond_the_age_or_number_kept_are_removed_oldest_first(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, retention: Retention, left: list[str], batch: int
) -> None:
    fill(engine, monkeypatch, [400, 30, 5, 2, 1])
    monkeypatch.setattr(audit_log, "BATCH", batch)
    log = AuditLog(engine, retention, clock=lambda: NOW)
    log.trim()
    assert kept(log) == left
    log.trim()
    assert kept(log) == left


def test_gaps_in_the_numbers_do_not_count_as_rows(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(engine, monkeypatch, [9, 8, 7, 6, 5])
    everything = AuditLog(engine)
    numbers = [entry.number for entry in everything.entries(tenant=None, before=None, limit=9)]
    with writing(engine) as session:
        remove_audit(session, numbers[1:4])
    AuditLog(engine, Retention(rows=2), clock=lambda: NOW).trim()
    assert kept(everything) == ["5", "9"]


def test_an_empty_audit_is_left_alone(engine: Engine) -> None:
    AuditLog(engine, Retention(days=1, rows=1)).trim()
