"""Opens the parts of the API process in order and connects them: base, keys, artifacts, text, engine client.

Everything here blocks and is called from a thread; `server` owns what runs on the event loop.
"""

import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from headmix_adapters.base import BaseError, ResolvedBase, resolve_base
from headmix_adapters.families import can_generate
from headmix_adapters.text.chat_template import ChatTemplate, ChatTemplateError, load_chat_template
from headmix_adapters.text.tokenizer import TokenizerError
from headmix_server.api.state import ApiState
from headmix_server.api.uploads.publish import verify
from headmix_server.api.uploads.receiving import MIB
from headmix_server.app.errors import SettingError, StartError
from headmix_server.app.observers.catalog_observer import CatalogObserver
from headmix_server.app.observers.report_observer import ReportObserver
from headmix_server.app.startup.banner import MAX_LISTED, Banner
from headmix_server.app.startup.conversion_watch import watch_conversion
from headmix_server.app.startup.preload import TENANT, Preload
from headmix_server.app.storage.claim import Claim
from headmix_server.app.storage.data_folder import DataFolder
from headmix_server.app.storage.open_library import open_library
from headmix_server.app.upkeep.background_tasks import flush_for_good
from headmix_server.app.upkeep.file_upkeep import FileUpkeep
from headmix_server.batches.batches import Batches
from headmix_server.catalog.catalog import Catalog
from headmix_server.catalog.incoming import Incoming
from headmix_server.core.errors import HeadmixServerError
from headmix_server.core.observability.logging import get_logger
from headmix_server.core.observability.metrics import Metrics
from headmix_server.core.settings.settings import Settings
from headmix_server.database.audit_log import AuditLog, Retention
from headmix_server.engine_client.client import EngineClient
from headmix_server.files.open import open_files
from headmix_server.files.sweep import Sweep
from headmix_server.files.uploads import Uploads
from headmix_server.jobs.jobs import Jobs
from headmix_server.services.conversion import Converter
from headmix_server.services.fetcher import Fetcher
from headmix_server.services.pinning import Pinning
from headmix_server.tenancy.failed_keys import FailedKeys
from headmix_server.tenancy.keys.keys import Keys
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


@dataclass(frozen=True, slots=True)
class Parts:
    """What the program holds while it runs. `new_key` is the admin key if this start created it."""

    state: ApiState
    folder: DataFolder
    reports: ReportObserver
    file_upkeep: FileUpkeep
    new_key: str | None

    def preload(self) -> None:
        """Publish the preload folder, if there is one."""
        state = self.state
        if state.settings.preload is not None:
            Preload(
                state.library,
                self.folder.preloaded,
                verify=lambda upload: verify(state, upload, allow_mismatch=False),
                max_bytes=state.settings.max_adapter_mib * MIB,
            ).publish_all(state.settings.preload)

    def engine_died(self) -> None:
        """Record in the metrics that the engine has died and a new one will replace it."""
        self.reports.engine_lost()
        self.state.metrics.engine_restarted()

    def banner(self, url: str) -> Banner:
        """Return the startup banner."""
        state, catalog = self.state, self.state.library.catalog
        adapters = catalog.list(TENANT, limit=MAX_LISTED)
        brought = {adapter.digest: catalog.descriptions.of(adapter.digest).examples for adapter in adapters}
        return Banner(
            url=url,
            base=state.base.name,
            generates=state.generates,
            chats=state.generates and state.chat_template is not None,
            adapters=adapters,
            examples={digest: examples[0] for digest, examples in brought.items() if examples},
            num_adapters=catalog.count(TENANT),
            data_dir=self.folder.root if state.settings.keys == "on" else None,
            new_key=self.new_key,
            program=_program(self.folder.root),
        )

    def close(self) -> None:
        """Write what the last requests used, and finish freeing artifacts."""
        flush_for_good(self.state.usage)
        self.state.library.close()


def _program(data_dir: Path) -> str | None:
    """Return the command line's name if, run in this folder, it finds the data folder by default; else None."""
    if data_dir.parent != Path.cwd() or not data_dir.name.startswith(".headmix"):
        return None
    called = sys.argv[0]
    return shlex.quote(called) if Path(called).name == "headmix" and shutil.which("headmix") is None else "headmix"


@dataclass(frozen=True, slots=True)
class _Base:
    """The base, with its tokenizer and chat template."""

    resolved: ResolvedBase
    tokenizer: Tokenizer
    chat_template: ChatTemplate | None


def _read_base(settings: Settings, is_stopping: Callable[[], bool]) -> _Base:
    try:
        with watch_conversion(settings.log_format, is_stopping) as on_progress:
            base = resolve_base(settings.base, on_progress=on_progress)
        tokenizer = load_tokenizer(base.folder)
        return _Base(base, tokenizer, load_chat_template(base.folder, tokenizer.special_tokens))
    except (BaseError, TokenizerError, ChatTemplateError, OSError) as error:
        raise SettingError("base", f"cannot be used: {error}") from error


def _text_workers(settings: Settings, folder: Path, metrics: Metrics) -> WorkerPool:
    """Return the pool of text workers; each worker starts with its first job."""
    memory = settings.text_worker_mib * MIB
    return WorkerPool(
        [WorkerProcess(folder, memory) for _ in range(settings.text_workers)],
        waiting_bytes=settings.text_queue_mib * MIB,
        observe=metrics.text_job_seconds.observe,
    )


def open_parts(settings: Settings, folder: DataFolder, claim: Claim, is_stopping: Callable[[], bool]) -> Parts:
    """Open everything except the engine on a claimed database; the first start with a GGUF base converts it here.

    Raises:
        StartStopped: `is_stopping` became true during the conversion.
        SettingError: the base, its tokenizer or template, or the bucket is not usable as set.
        StartError: the database does not respond, the data folder cannot be used, or the two do not belong together.
    """
    read = _read_base(settings, is_stopping)
    base, tokenizer = read.resolved, read.tokenizer
    for note in tokenizer.notes:
        get_logger("app").warning("tokenizer", note=note)
    storage = None if settings.limits_storage is None else open_storage(settings.limits_storage.get_secret_value())
    metrics = Metrics(series=settings.metrics_series, version=version("headmix"), base=base.name)
    claim.failures.watch(partial(metrics.storage_failed, "database"))
    database = claim.database
    reports = ReportObserver(Catalog(database), metrics)
    engine = EngineClient(max_open=settings.max_running + settings.max_waiting, on_report=reports)
    try:
        keys = Keys(database)
        new_key = keys.bootstrap(folder.root) if settings.keys == "on" else None
        library = open_library(
            settings,
            database,
            folder,
            base,
            on_freed=engine.forget,
            on_bucket_failure=partial(metrics.storage_failed, "artifacts"),
        )
    except HeadmixServerError as error:
        raise StartError(error.message) from error
    except OSError as error:
        raise StartError(f"the data folder {folder.root} cannot be used: {error}") from error
    files = open_files(
        settings,
        database,
        folder.files,
        removes_bytes=True,
        on_bucket_failure=partial(metrics.storage_failed, "artifacts"),
    )
    fetcher = Fetcher(library.store, settings.max_downloads)
    pinning = Pinning(engine, library, fetcher)
    library.catalog.watch(CatalogObserver(metrics, pinning))
    text_workers = _text_workers(settings, base.folder, metrics)
    state = ApiState(
        settings=settings,
        base=base,
        generates=can_generate(base.shape.model_type),
        tokenizer=tokenizer,
        vocabularies=Vocabularies(tokenizer, base.shape.vocab_size),
        text_workers=text_workers,
        grammars=GrammarBook(text_workers),
        chat_template=read.chat_template,
        engine=engine,
        library=library,
        fetcher=fetcher,
        pinning=pinning,
        keys=keys,
        tenants=Tenants(database),
        audit=AuditLog(database, Retention(settings.audit_days, settings.audit_rows)),
        metrics=metrics,
        limits=TenantLimits(database, default_limits(settings)),
        rates=Rates(storage, on_fallback=metrics.limits_fell_back),
        usage=UsageMeter(claim.unfenced),
        usage_report=UsageReport(database),
        failed_keys=FailedKeys(settings.limit_failed_keys_per_minute),
        converter=Converter(settings),
        incoming=Incoming(settings.max_uploads, settings.max_uploads_each),
        database=database,
        jobs=Jobs(database),
        batches=Batches(database, Jobs(database)),
        files=files,
        uploads=Uploads(database, files),
        refusal=claim.keeper.refusal,
    )
    return Parts(state, folder, reports, FileUpkeep(Sweep(database, files), metrics), new_key)
