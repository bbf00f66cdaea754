"""A catalog of thousands: the cost of a query depends on its result, not on the number of adapters.

`benchmarks.registry` measures wall time. Here every SQL statement is checked: how many there are, that none scans a
whole table, and how many headers were decoded.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event

from harness.adapters.records import digest_of, record_of
from harness.server.large_catalog import TENANT, fill, name_of
from headmix_adapters.config import AdapterConfig, decode_config
from headmix_server.catalog.catalog import Catalog
from headmix_server.catalog.rollout.sharing import Shares
from headmix_server.catalog.version import VersionState
from headmix_server.database import open_database

MANY = 3_000
MIDDLE = name_of(MANY // 2)
MOST_STATEMENTS = 16  # a publication's, including begin, commit and audit

Statement = tuple[str, Any]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = open_database(tmp_path_factory.mktemp("many") / "headmix.db")
    fill(engine, MANY, record_of(b"any").config)
    yield engine
    engine.dispose()


@pytest.fixture
def statements(engine: Engine) -> Iterator[list[Statement]]:
    seen: list[Statement] = []

    def note(_: object, __: object, statement: str, parameters: object, *___: object) -> None:
        seen.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []

    def decode(text: str) -> AdapterConfig:
        texts.append(text)
        return decode_config(text)

    monkeypatch.setattr("headmix_server.catalog.queries.decode_config", decode)
    return texts


Question = Callable[[Catalog], object]

QUESTIONS: dict[str, tuple[int, Question]] = {
    "a name": (1, lambda catalog: catalog.resolve(TENANT, MIDDLE)),
    "a version": (1, lambda catalog: catalog.resolve(TENANT, f"{MIDDLE}@1")),
    "a name that is shared": (1, lambda catalog: catalog.resolve("b", f"{TENANT}/old")),
    "what is shared": (1, lambda catalog: catalog.sharing.visible("b", limit=10)),
    "a page of what may be used": (10, lambda catalog: catalog.sharing.visible(TENANT, after=MIDDLE, limit=10)),
    "what is pinned": (1, lambda catalog: catalog.pins.current()),
    "a page": (10, lambda catalog: catalog.list(TENANT, after=MIDDLE, limit=10)),
    "the versions of a name": (1, lambda catalog: catalog.versions(TENANT, MIDDLE)),
    "whose some digests are": (0, lambda catalog: catalog.owners([digest_of(b"1"), digest_of(b"2")])),
    "whether a digest is in use": (0, lambda catalog: catalog.refers_to(digest_of(b"1"))),
    "a publication": (1, lambda catalog: catalog.publish(TENANT, "new", record_of(b"new"))),
    "a rollback": (2, lambda catalog: catalog.rollback(TENANT, "old", 1)),
    "a version's state": (1, lambda catalog: catalog.set_state(TENANT, "old", 1, VersionState.RETIRED)),
    "a deletion": (0, lambda catalog: catalog.delete(TENANT, "gone")),
    "a burial": (0, lambda catalog: catalog.tombstones.bury(digest_of(b"buried"))),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_query_reads_no_more_than_its_result_needs(
    engine: Engine, statements: list[Statement], decoded: list[str], question: str
) -> None:
    catalog = Catalog(engine)
    for name, content in (("old", b"1"), ("old", b"2"), ("gone", b"gone"), ("buried", b"buried")):
        catalog.publish(TENANT, name, record_of(content))
    catalog.set_state(TENANT, "old", 1, VersionState.READY)  # another question has perhaps retired it
    catalog.delete(TENANT, "buried")
    catalog.sharing.change(TENANT, "old", Shares(tenants=("b",)))
    catalog.pins.add(TENANT, "old")
    statements.clear()
    decoded.clear()
    headers, ask = QUESTIONS[question]
    ask(catalog)
    assert len(decoded) == headers
    assert len(statements) <= MOST_STATEMENTS
    read_whole = [plan for plan in plans(engine, statements) if plan.startswith("SCAN") and "USING" not in plan]
    assert set(read_whole) <= {"SCAN identity"}  # a table of one row


@pytest.mark.parametrize("model", [MIDDLE, f"{MIDDLE}@1", f"{TENANT}/{MIDDLE}"])
def test_only_the_requested_version_of_a_name_is_read(engine: Engine, statements: list[Statement], model: str) -> None:
    Catalog(engine).resolve(TENANT, model)
    (found,) = [plan for plan in plans(engine, statements) if plan.startswith("SEARCH versions")]
    assert "adapter_id=? AND number=?" in found


def plans(engine: Engine, statements: list[Statement]) -> Iterator[str]:
    """Yield SQLite's query plan for each statement; `SCAN` reads a whole table."""
    with engine.connect() as connection:
        for statement, parameters in list(statements):
            if statement.split(None, 1)[0] in ("SELECT", "UPDATE", "DELETE"):
                found = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                yield from (str(row[3]) for row in found)
