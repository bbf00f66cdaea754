"""Owns the asyncio client: `client.Client` with every operation awaited."""

import asyncio
import os
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2

from headmix.calls import AsyncBound, AsyncCall, AsyncPagedCall, AsyncStreamCall
from headmix.config import DEFAULT_MAX_RETRIES, DEFAULT_TIMEOUT, Settings, Timeout
from headmix.http.download import FileSink
from headmix.http.response import transport_errors
from headmix.http.sender import AsyncSender
from headmix.http.upload import Progress
from headmix.operations import adapters, models, rollout
from headmix.operations.health import get_health, get_readiness
from headmix.operations.inference import classification, embedding, generation, scoring, tokens
from headmix.operations.jobs import batches, files, fine_tuning
from headmix.operations.tenants import adapters as tenant_adapters
from headmix.operations.tenants import tenants
from headmix.operations.tenants.usage import read_storage, read_usage, read_usage_csv


class AsyncStreams(AsyncBound):
    """`client.stream`: generation as an asynchronous iterator over chunks."""

    complete = AsyncStreamCall(generation.stream_complete)
    chat = AsyncStreamCall(generation.stream_chat)


class AsyncModels(AsyncBound):
    """`client.models`: the models this key may use."""

    list = AsyncPagedCall(models.list_models)
    get = AsyncCall(models.get_model)
    delete = AsyncCall(models.delete_model)
    base = AsyncCall(models.base_model)


class AsyncAdapters(AsyncBound):
    """`client.adapters`: the tenant's adapters and their versions."""

    push = AsyncCall(adapters.push)
    list = AsyncPagedCall(adapters.list_adapters)
    get = AsyncCall(adapters.get_adapter)
    versions = AsyncPagedCall(adapters.versions)
    remove = AsyncCall(adapters.remove)
    retire = AsyncCall(adapters.retire)
    restore = AsyncCall(adapters.restore)
    rollback = AsyncCall(adapters.rollback)
    load = AsyncCall(adapters.load)
    sharing = AsyncCall(rollout.sharing)
    share = AsyncCall(rollout.share)
    unshare = AsyncCall(rollout.unshare)
    pin = AsyncCall(rollout.pin)
    unpin = AsyncCall(rollout.unpin)
    canary = AsyncCall(rollout.canary)
    end_canary = AsyncCall(rollout.end_canary)
    promote = AsyncCall(rollout.promote)
    download = AsyncCall(adapters.download)

    async def save(
        self,
        name: str,
        destination: str | os.PathLike[str],
        version: int | None = None,
        *,
        progress: Progress | None = None,
    ) -> Path:
        """Download an artifact to a file in blocks; the file only appears if complete and its digest matches."""
        response = await self.sender.open(adapters.download(name, version))
        with transport_errors():
            async with aclosing(response):
                with FileSink.of(response, destination, progress) as sink:
                    async for block in response.aiter_bytes():
                        await asyncio.to_thread(sink.write, block)
                        sink.report()
        return sink.path


class AsyncFiles(AsyncBound):
    """`client.files`: what jobs read, and what they write."""

    upload = AsyncCall(files.upload)
    list = AsyncPagedCall(files.list_files)
    get = AsyncCall(files.get_file)
    download = AsyncCall(files.download)
    delete = AsyncCall(files.delete)

    async def save(
        self, file_id: str, destination: str | os.PathLike[str], *, progress: Progress | None = None
    ) -> Path:
        """Download a file in blocks; it only appears at the destination if complete and its digest matches."""
        response = await self.sender.open(files.download(file_id))
        with transport_errors():
            async with aclosing(response):
                with FileSink.of(response, destination, progress) as sink:
                    async for block in response.aiter_bytes():
                        await asyncio.to_thread(sink.write, block)
                        sink.report()
        return sink.path


class AsyncBatches(AsyncBound):
    """`client.batches`: files of requests that are answered when there is room."""

    create = AsyncCall(batches.create)
    list = AsyncPagedCall(batches.list_batches)
    get = AsyncCall(batches.get_batch)
    cancel = AsyncCall(batches.cancel)


class AsyncFineTuning(AsyncBound):
    """`client.fine_tuning`: jobs that train adapters on the server."""

    create = AsyncCall(fine_tuning.create)
    list = AsyncPagedCall(fine_tuning.list_jobs)
    get = AsyncCall(fine_tuning.get)
    cancel = AsyncCall(fine_tuning.cancel)
    pause = AsyncCall(fine_tuning.pause)
    resume = AsyncCall(fine_tuning.resume)
    events = AsyncPagedCall(fine_tuning.events)
    latest_events = AsyncCall(fine_tuning.latest_events)


class AsyncKeys(AsyncBound):
    """`client.keys`: every tenant's keys, for administrators."""

    list = AsyncCall(tenants.list_keys)
    create = AsyncCall(tenants.create_key)
    rotate = AsyncCall(tenants.rotate_key)
    revoke = AsyncCall(tenants.revoke_key)


class AsyncTenants(AsyncBound):
    """`client.tenants`: every tenant and the audit log, for administrators."""

    list = AsyncCall(tenants.list_tenants)
    get = AsyncCall(tenants.get_tenant)
    create = AsyncCall(tenants.create_tenant)
    limits = AsyncCall(tenants.get_limits)
    set_limits = AsyncCall(tenants.set_limits)
    audit = AsyncCall(tenants.read_audit)
    adapters = AsyncPagedCall(tenant_adapters.list_of)
    versions = AsyncPagedCall(tenant_adapters.versions)
    remove_adapter = AsyncCall(tenant_adapters.remove)
    retire_adapter = AsyncCall(tenant_adapters.retire)
    unshare_adapter = AsyncCall(tenant_adapters.unshare)
    unpin_adapter = AsyncCall(tenant_adapters.unpin)


class AsyncClient(AsyncBound):
    """A client of one headmix server for asyncio, with the parameters of `Client`. Every operation is awaited."""

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: Timeout = DEFAULT_TIMEOUT,
        max_retries: int = DEFAULT_MAX_RETRIES,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(AsyncSender(Settings.resolve(base_url, api_key, timeout, max_retries), transport))
        self.stream = AsyncStreams(self.sender)
        self.models = AsyncModels(self.sender)
        self.adapters = AsyncAdapters(self.sender)
        self.files = AsyncFiles(self.sender)
        self.batches = AsyncBatches(self.sender)
        self.fine_tuning = AsyncFineTuning(self.sender)
        self.keys = AsyncKeys(self.sender)
        self.tenants = AsyncTenants(self.sender)

    complete = AsyncCall(generation.complete)
    chat = AsyncCall(generation.chat)
    classify = AsyncCall(classification.classify)
    embed = AsyncCall(embedding.embed)
    rerank = AsyncCall(scoring.rerank)
    score = AsyncCall(scoring.score)
    moderate = AsyncCall(scoring.moderate)
    tokenize = AsyncCall(tokens.tokenize)
    detokenize = AsyncCall(tokens.detokenize)
    usage = AsyncCall(read_usage)
    usage_csv = AsyncCall(read_usage_csv)
    storage = AsyncCall(read_storage)
    health = AsyncCall(get_health)
    ready = AsyncCall(get_readiness)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.sender.settings.base_url!r})"

    async def aclose(self) -> None:
        """Close the connections."""
        await self.sender.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
