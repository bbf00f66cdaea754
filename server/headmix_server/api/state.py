"""Everything a request may need, assembled once at startup and passed to the routers; no field is reassigned later."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import time

from sqlalchemy import Engine

from headmix_adapters.base import ResolvedBase
from headmix_adapters.text.chat_template import ChatTemplate
from headmix_server.api.public_metrics import PublicMetrics
from headmix_server.api.threads import Threads
from headmix_server.batches.batches import Batches
from headmix_server.catalog.incoming import Incoming
from headmix_server.catalog.library import Library
from headmix_server.core.observability.metrics import Metrics
from headmix_server.core.settings.settings import Settings
from headmix_server.core.types import Residency
from headmix_server.database.audit_log import AuditLog
from headmix_server.engine_client.client import EngineClient
from headmix_server.files.files import Files
from headmix_server.files.uploads import Uploads
from headmix_server.jobs.jobs import Jobs
from headmix_server.services.conversion import Converter
from headmix_server.services.fetcher import Fetcher
from headmix_server.services.pinning import Pinning
from headmix_server.tenancy.failed_keys import FailedKeys
from headmix_server.tenancy.keys.keys import Keys
from headmix_server.tenancy.limits.open_requests import OpenRequests
from headmix_server.tenancy.limits.rates import Rates
from headmix_server.tenancy.limits.tenant_limits import TenantLimits
from headmix_server.tenancy.tenants import Tenants
from headmix_server.tenancy.usage.meter import UsageMeter
from headmix_server.tenancy.usage.report import UsageReport
from headmix_server.text.grammars.book import GrammarBook
from headmix_server.text.tokenizer import Tokenizer
from headmix_server.text.vocabulary.vocabularies import Vocabularies
from headmix_server.text.workers.worker_pool import WorkerPool


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiState:
    """The parts behind the routes. `chat_template` is None if the base has none; `created` is in Unix seconds.

    `generates`: the base can continue a text. `tokenizer` is the base's; `vocabularies` holds the tokenizers of
    adapters that add tokens, and `text_workers` tokenize what would block the event loop; `grammars` has them write
    grammars. `job_created` is set with each new job that the server has to check.

    `refusal` returns the reason why requests must not be served at the moment, or None if they may.
    """

    settings: Settings
    base: ResolvedBase
    generates: bool
    tokenizer: Tokenizer
    vocabularies: Vocabularies
    text_workers: WorkerPool
    grammars: GrammarBook
    chat_template: ChatTemplate | None
    engine: EngineClient
    library: Library
    fetcher: Fetcher
    pinning: Pinning
    keys: Keys
    tenants: Tenants
    audit: AuditLog
    metrics: Metrics
    limits: TenantLimits
    rates: Rates
    usage: UsageMeter
    usage_report: UsageReport
    failed_keys: FailedKeys
    converter: Converter
    incoming: Incoming
    database: Engine
    files: Files
    uploads: Uploads
    jobs: Jobs
    batches: Batches
    refusal: Callable[[], str | None] = lambda: None
    open_requests: OpenRequests = field(default_factory=OpenRequests)
    open_on_any_route: OpenRequests = field(default_factory=OpenRequests)
    threads: Threads = field(default_factory=Threads)
    job_created: asyncio.Event = field(default_factory=asyncio.Event)
    public_metrics: PublicMetrics = field(default_factory=PublicMetrics)
    created: int = field(default_factory=lambda: int(time()))

    def residency(self, tenant: str, digest: str) -> Residency:
        """Return the fastest tier to which the tenant's own use has brought the adapter, as the engine last reported.

        Other tenants' use of the same bytes is not revealed. The file is always there: the slowest tier is `DISK`.
        """
        return self.engine.resident.get((tenant, digest), Residency.DISK)
