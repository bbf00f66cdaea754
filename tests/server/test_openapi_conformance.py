"""The server conforms to its own OpenAPI document: schemathesis draws requests from it, valid and invalid, with and
without keys; every status is documented, every body has the documented format, and nothing causes an internal server
error.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from harness.api_conformance import run_phases, write_preload
from harness.server.running_server import FAKE_BASE, RunningServer, running_server, write_fake_base
from tests.support.storage.databases import PostgresServer

pytestmark = pytest.mark.slow

EXAMPLES = 12
"""The number of requests drawn for each operation, mode and server."""

OWN_FAULTS = frozenset({500, 501, 502, 504})
NAMES = {"name": "poet", "model": "judge", "owner": "default", "tenant": "default"}
"""Path parameters that exist, tried in addition to those that schemathesis invents."""

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module", params=["on", "off"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer
) -> Iterator[RunningServer]:
    """A server with keys and its catalog in PostgreSQL, and one without keys and its catalog in SQLite."""
    folder = tmp_path_factory.mktemp(f"keys-{request.param}")
    base = write_fake_base(folder / FAKE_BASE)
    preload = write_preload(folder / "preload", base)
    env = {"HEADMIX_DATABASE": postgres.new_database()} if request.param == "on" else {}
    with running_server(
        folder, base=base, preload=preload, keys=request.param, env=env, limit_refusals_per_second=0
    ) as server:
        yield server


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("with_key", [True, False], ids=["key", "no key"])
def test_every_answer_is_one_that_the_document_has(
    server: RunningServer, mode: GenerationMode, *, with_key: bool
) -> None:
    schema = schemathesis.openapi.from_url(f"{server.base_url}/openapi.json")
    headers = server.headers if with_key and (server.data_dir / "admin.key").exists() else {}
    statuses = Counter[int]()
    with requests.Session() as session:
        for result in schema.get_all_operations():
            assert isinstance(result, Ok), result
            _try(result.ok(), mode, session, headers, statuses)
    assert statuses, "nothing was asked"
    if headers:
        assert statuses[200], statuses


def _try(
    operation: Any, mode: GenerationMode, session: requests.Session, headers: dict[str, str], statuses: Counter[int]
) -> None:
    if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query or operation.path_parameters):
        return  # there is nothing to get wrong

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
    def ask(case: Any, *, known: bool) -> None:
        if known:
            leading = {name: value for name, value in NAMES.items() if name in (case.path_parameters or {})}
            case.path_parameters = {**(case.path_parameters or {}), **leading}
        response = case.call(session=session, headers=headers, timeout=60)
        statuses[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)
        assert response.status_code not in OWN_FAULTS, (operation.label, case.body, response.text)

    ask()


WRITING = ("/v1/adapters/{name}/rollback", "/v1/adapters/{name}/sharing", "/v1/embeddings", "/v1/tenants")
"""The routes that one run of schemathesis' own phases covers; `python -m harness.api_conformance` covers all."""


def test_no_phase_of_schemathesis_finds_a_fault(tmp_path: Path) -> None:
    routes = [option for path in WRITING for option in ("--include-path", path)]
    base = write_fake_base(tmp_path / FAKE_BASE)
    with running_server(
        tmp_path, base=base, preload=write_preload(tmp_path / "preload", base), limit_refusals_per_second=0
    ) as server:
        done = run_phases(server, tmp_path, "--max-examples", "2", "--generation-deterministic", *routes)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    for phase in ("Coverage", "Fuzzing", "Stateful"):
        assert phase in done.stdout
