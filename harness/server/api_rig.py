"""The whole HTTP API over a socket: real catalog, keys, metrics and tokenizer, with a fake engine."""

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import uvicorn
from starlette.types import ASGIApp

from harness.server.fake_engine import READY, FakeEngine
from harness.server.migrated_file import migrated_file
from headmix_adapters.base import ResolvedBase
from headmix_adapters.config import AdapterConfig, BaseShape, ClassifierConfig, HeadPart, Problem, SiteConfig, Sites
from headmix_adapters.families import can_generate
from headmix_adapters.text.chat_template import load_chat_template
from headmix_server.api.app import create_app
from headmix_server.api.state import ApiState
from headmix_server.app.http.listen import listen
from headmix_server.app.observers.catalog_observer import CatalogObserver
from headmix_server.batches.batches import Batches
from headmix_server.catalog.bytes.holds import Holds
from headmix_server.catalog.bytes.store import ArtifactStore, Store
from headmix_server.catalog.catalog import Catalog
from headmix_server.catalog.incoming import Incoming
from headmix_server.catalog.library import Library
from headmix_server.catalog.version import AdapterRecord, AdapterVersion
from headmix_server.core.messages import EngineReady
from headmix_server.core.observability.metrics import Metrics
from headmix_server.core.settings.settings import Settings
from headmix_server.database import connect_database, open_database
from headmix_server.database.audit_log import AuditLog
from headmix_server.engine_client.client import EngineClient
from headmix_server.files.open import open_files
from headmix_server.files.uploads import Uploads
from headmix_server.jobs.jobs import Jobs
from headmix_server.services.conversion import Converter
from headmix_server.services.fetcher import Fetcher
from headmix_server.services.pinning import Pinning
from headmix_server.tenancy.failed_keys import FailedKeys
from headmix_server.tenancy.keys.keys import Keys
from headmix_server.tenancy.keys.principal import ALL_SCOPES, Scope
from headmix_server.tenancy.limits.limits import default_limits
from headmix_server.tenancy.limits.rates import Rates, open_storage
from headmix_server.tenancy.limits.tenant_limits import TenantLimits
from headmix_server.tenancy.tenants import Tenants
from headmix_server.tenancy.usage.meter import UsageMeter
from headmix_server.tenancy.usage.report import UsageReport
from headmix_server.text.grammars.book import GrammarBook
from headmix_server.text.tokenizer import Tokenizer, load_tokenizer
from headmix_server.text.vocabulary.vocabularies import Vocabularies
from headmix_server.text.workers.worker_pool import WorkerPool
from headmix_server.text.workers.worker_process import WorkerProcess

BASE = "tiny-base"
TENANT, OTHER_TENANT = "tenant", "other"

MakeStore = Callable[[Path, Holds], Store]
"""Creates the artifact store of a data folder; artifacts that are held stay in it."""


def base_shape(tokenizer: Tokenizer, **changes: Any) -> BaseShape:
    """Return a small base's shape with the tokenizer's vocabulary."""
    shape = BaseShape(
        name=BASE,
        model_type="llama",
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        vocab_size=tokenizer.vocab_size,
        fingerprint="sha256:00000000",
    )
    return msgspec.structs.replace(shape, **changes)


@dataclass
class ApiRig:
    """A server under test. `client` sends the key of `TENANT`, `other` that of another tenant."""

    state: ApiState
    url: str
    endpoint: str
    engine: FakeEngine
    client: httpx2.AsyncClient
    other: httpx2.AsyncClient
    keys: dict[str, str] = field(default_factory=dict)

    def encode(self, text: str) -> list[int]:
        """Return a text's ids without special tokens."""
        return self.state.tokenizer.encode(text, add_special_tokens=False)

    def says(self, text: str) -> None:
        """Make the engine answer every generation with this text."""
        self.engine.reply = self.encode(text)

    def publish(
        self, name: str, content: bytes | None = None, *, tenant: str = TENANT, **config: Any
    ) -> AdapterVersion:
        """Add an adapter with arbitrary bytes to the library."""
        content = f"{tenant}/{name}".encode() if content is None else content
        with self.state.library.store.receive(max_bytes=1000) as upload:
            upload.write(content)
            record = AdapterRecord(
                digest=upload.digest,
                base=self.state.base.shape.fingerprint,
                size_bytes=len(content),
                num_parameters=7,
                config=adapter_config(self.state.base.shape, **config),
            )
            return self.state.library.publish(tenant, name, upload, record).version

    def key(self, *scopes: Scope, tenant: str = TENANT) -> dict[str, str]:
        """Create a key with these scopes and return the header that sends it."""
        return bearer(self.state.keys.create(tenant, scopes or ALL_SCOPES).plaintext)


def bearer(key: str) -> dict[str, str]:
    """Return the header that sends a key."""
    return {"Authorization": f"Bearer {key}"}


def adapter_config(
    base: BaseShape, *, labels: tuple[str, ...] = (), problem: Problem = "single_label", **changes: Any
) -> AdapterConfig:
    """Return an adapter's header; a classifier's if labels are given."""
    config = AdapterConfig(
        method="kernel-mix",
        task="classification" if labels else "generation",
        base=base,
        sites=Sites(q=SiteConfig(head=HeadPart(rank=2, base="x"))),
        classifier=ClassifierConfig(pooling="last", kind="linear", labels=labels, problem=problem) if labels else None,
        training={"steps": 3},
    )
    return msgspec.structs.replace(config, **changes)


@asynccontextmanager
async def api_rig(
    folder: Path,
    data: Path,
    *,
    settings: Mapping[str, Any] | None = None,
    shape: Mapping[str, Any] | None = None,
    connected: bool = True,
    make_store: MakeStore | None = None,
    rates: Rates | None = None,
    refusal: Callable[[], str | None] = lambda: None,
    ready: EngineReady = READY,
) -> AsyncIterator[ApiRig]:
    """Run the API on the base in `folder` with its data in `data`; `shape` and `settings` replace defaults.

    `ready` is the engine's ready message.
    """
    state = replace(_state(folder, data, settings or {}, shape or {}, make_store, rates), refusal=refusal)
    with tempfile.TemporaryDirectory() as run, listen("127.0.0.1", 0) as listener:
        endpoint = f"ipc://{run}/engine.sock"
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = _Server(create_app(state))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        engine = FakeEngine(endpoint, ready=ready)
        state.engine.attach(endpoint)
        keys = {tenant: state.keys.create(tenant, ALL_SCOPES).plaintext for tenant in (TENANT, OTHER_TENANT)}
        try:
            async with (
                httpx2.AsyncClient(base_url=url, headers=bearer(keys[TENANT]), timeout=20, verify=False) as client,
                httpx2.AsyncClient(base_url=url, headers=bearer(keys[OTHER_TENANT]), timeout=20, verify=False) as other,
            ):
                rig = ApiRig(state, url, endpoint, engine, client, other, keys)
                if connected:
                    async with engine:
                        await state.engine.wait_ready()
                        yield rig
                else:
                    yield rig
        finally:
            await state.pinning.close()
            state.engine.detach("the test is over")
            server.stopped.set()
            await serving
            await state.rates.aclose()
            await state.text_workers.close()
            state.library.close()
            state.database.dispose()


class _Server(uvicorn.Server):
    """Shuts down immediately, not at the next tick; leaves the process's signal handlers alone."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none"))
        self.stopped = asyncio.Event()

    async def main_loop(self) -> None:
        await self.stopped.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End as soon as the last connection has; uvicorn's own shutdown polls every tenth of a second."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.001)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def database_of(settings: Settings) -> str | Path:
    """Return the location of a server's database; a file is made with its schema, since migrations take long."""
    if settings.database is not None:
        return settings.database.get_secret_value()
    file = settings.data_dir / "headmix.db"
    if not file.exists():
        file.write_bytes(migrated_file())
    return file


def _state(
    folder: Path,
    data: Path,
    settings: Mapping[str, Any],
    shape: Mapping[str, Any],
    make_store: MakeStore | None,
    rates: Rates | None,
) -> ApiState:
    data.mkdir(exist_ok=True)
    tokenizer = load_tokenizer(folder)
    base = base_shape(tokenizer, **shape)
    # Low-priority conversions would take minutes on a machine that runs other tests.
    chosen = Settings(**{"data_dir": data, "conversion_niceness": 0, "limit_refusals_per_second": 0, **settings})
    located = database_of(chosen)
    database = connect_database(located) if isinstance(located, Path) else open_database(located)
    metrics = Metrics(series=100, version="0", base=BASE)
    redis = chosen.limits_storage
    shared = None if redis is None else open_storage(redis.get_secret_value())
    engine = EngineClient(max_open=chosen.max_running + chosen.max_waiting)
    catalog, holds = Catalog(database, reserved={BASE}), Holds()
    store = ArtifactStore(data / "artifacts") if make_store is None else make_store(data, holds)
    catalog.bind_base(base)
    library = Library(catalog, store, base=base.fingerprint, holds=holds, on_freed=engine.forget)
    files = open_files(chosen, database, data / "files", removes_bytes=True)
    fetcher = Fetcher(library.store, chosen.max_downloads)
    pinning = Pinning(engine, library, fetcher)
    catalog.watch(CatalogObserver(metrics, pinning))
    workers = WorkerPool([WorkerProcess(folder, chosen.text_worker_mib << 20)])
    return ApiState(
        settings=chosen,
        base=ResolvedBase(name=BASE, folder=folder, shape=base),
        generates=can_generate(base.model_type),
        tokenizer=tokenizer,
        vocabularies=Vocabularies(tokenizer, base.vocab_size),
        text_workers=workers,
        grammars=GrammarBook(workers),
        chat_template=load_chat_template(folder, tokenizer.special_tokens),
        engine=engine,
        library=library,
        fetcher=fetcher,
        pinning=pinning,
        keys=Keys(database),
        tenants=Tenants(database),
        audit=AuditLog(database),
        metrics=metrics,
        limits=TenantLimits(database, default_limits(chosen)),
        rates=rates or Rates(shared, on_fallback=metrics.limits_fell_back),
        usage=UsageMeter(database),
        usage_report=UsageReport(database),
        failed_keys=FailedKeys(chosen.limit_failed_keys_per_minute),
        converter=Converter(chosen),
        incoming=Incoming(chosen.max_uploads, chosen.max_uploads_each),
        files=files,
        uploads=Uploads(database, files),
        created=1700000000,
        database=database,
        jobs=Jobs(database),
        batches=Batches(database, Jobs(database)),
    )
