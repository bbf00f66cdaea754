"""Owns the blocking client: the names of its operations. What they send and parse is in `operations`."""

import os
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2

from headmix.calls import Bound, Call, PagedCall, StreamCall
from headmix.config import DEFAULT_MAX_RETRIES, DEFAULT_TIMEOUT, Settings, Timeout
from headmix.http.download import FileSink
from headmix.http.response import transport_errors
from headmix.http.sender import Sender
from headmix.http.upload import Progress
from headmix.operations import adapters, models, rollout
from headmix.operations.health import get_health, get_readiness
from headmix.operations.inference import classification, embedding, generation, scoring, tokens
from headmix.operations.jobs import batches, files, fine_tuning
from headmix.operations.tenants import adapters as tenant_adapters
from headmix.operations.tenants import tenants
from headmix.operations.tenants.usage import read_storage, read_usage, read_usage_csv


class Streams(Bound):
    """`client.stream`: generation as an iterator over chunks."""

    complete = StreamCall(generation.stream_complete)
    chat = StreamCall(generation.stream_chat)


class Models(Bound):
    """`client.models`: the models this key may use."""

    list = PagedCall(models.list_models)
    get = Call(models.get_model)
    delete = Call(models.delete_model)
    base = Call(models.base_model)


class Adapters(Bound):
    """`client.adapters`: the tenant's adapters and their versions."""

    push = Call(adapters.push)
    list = PagedCall(adapters.list_adapters)
    get = Call(adapters.get_adapter)
    versions = PagedCall(adapters.versions)
    remove = Call(adapters.remove)
    retire = Call(adapters.retire)
    restore = Call(adapters.restore)
    rollback = Call(adapters.rollback)
    load = Call(adapters.load)
    sharing = Call(rollout.sharing)
    share = Call(rollout.share)
    unshare = Call(rollout.unshare)
    pin = Call(rollout.pin)
    unpin = Call(rollout.unpin)
    canary = Call(rollout.canary)
    end_canary = Call(rollout.end_canary)
    promote = Call(rollout.promote)
    download = Call(adapters.download)

    def save(
        self,
        name: str,
        destination: str | os.PathLike[str],
        version: int | None = None,
        *,
        progress: Progress | None = None,
    ) -> Path:
        """Download an artifact to a file in blocks; the file only appears if complete and its digest matches."""
        response = self.sender.open(adapters.download(name, version))
        with transport_errors(), closing(response), FileSink.of(response, destination, progress) as sink:
            for block in response.iter_bytes():
                sink.write(block)
                sink.report()
        return sink.path


class Files(Bound):
    """`client.files`: what jobs read, and what they write."""

    upload = Call(files.upload)
    list = PagedCall(files.list_files)
    get = Call(files.get_file)
    download = Call(files.download)
    delete = Call(files.delete)

    def save(self, file_id: str, destination: str | os.PathLike[str], *, progress: Progress | None = None) -> Path:
        """Download a file in blocks; it only appears at the destination if complete and its digest matches."""
        response = self.sender.open(files.download(file_id))
        with transport_errors(), closing(response), FileSink.of(response, destination, progress) as sink:
            for block in response.iter_bytes():
                sink.write(block)
                sink.report()
        return sink.path


class Batches(Bound):
    """`client.batches`: files of requests that are answered when there is room."""

    create = Call(batches.create)
    list = PagedCall(batches.list_batches)
    get = Call(batches.get_batch)
    cancel = Call(batches.cancel)


class FineTuning(Bound):
    """`client.fine_tuning`: jobs that train adapters on the server."""

    create = Call(fine_tuning.create)
    list = PagedCall(fine_tuning.list_jobs)
    get = Call(fine_tuning.get)
    cancel = Call(fine_tuning.cancel)
    pause = Call(fine_tuning.pause)
    resume = Call(fine_tuning.resume)
    events = PagedCall(fine_tuning.events)
    latest_events = Call(fine_tuning.latest_events)


class Keys(Bound):
    """`client.keys`: every tenant's keys, for administrators."""

    list = Call(tenants.list_keys)
    create = Call(tenants.create_key)
    rotate = Call(tenants.rotate_key)
    revoke = Call(tenants.revoke_key)


class Tenants(Bound):
    """`client.tenants`: every tenant and the audit log, for administrators."""

    list = Call(tenants.list_tenants)
    get = Call(tenants.get_tenant)
    create = Call(tenants.create_tenant)
    limits = Call(tenants.get_limits)
    set_limits = Call(tenants.set_limits)
    audit = Call(tenants.read_audit)
    adapters = PagedCall(tenant_adapters.list_of)
    versions = PagedCall(tenant_adapters.versions)
    remove_adapter = Call(tenant_adapters.remove)
    retire_adapter = Call(tenant_adapters.retire)
    unshare_adapter = Call(tenant_adapters.unshare)
    unpin_adapter = Call(tenant_adapters.unpin)


class Client(Bound):
    """A client of one headmix server. Threads may share it; close it at the end (it is a context manager).

    `base_url`: default HEADMIX_BASE_URL, else http://127.0.0.1:8000. `api_key`: default HEADMIX_API_KEY. `timeout`:
    seconds without progress, an `httpx2.Timeout`, or None for no limit. `max_retries`: additional attempts after a
    failed connection, a 429 or a 503. `transport`: replaces the network, for tests.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: Timeout = DEFAULT_TIMEOUT,
        max_retries: int = DEFAULT_MAX_RETRIES,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        super().__init__(Sender(Settings.resolve(base_url, api_key, timeout, max_retries), transport))
        self.stream = Streams(self.sender)
        self.models = Models(self.sender)
        self.adapters = Adapters(self.sender)
        self.files = Files(self.sender)
        self.batches = Batches(self.sender)
        self.fine_tuning = FineTuning(self.sender)
        self.keys = Keys(self.sender)
        self.tenants = Tenants(self.sender)

    complete = Call(generation.complete)
    chat = Call(generation.chat)
    classify = Call(classification.classify)
    embed = Call(embedding.embed)
    rerank = Call(scoring.rerank)
    score = Call(scoring.score)
    moderate = Call(scoring.moderate)
    tokenize = Call(tokens.tokenize)
    detokenize = Call(tokens.detokenize)
    usage = Call(read_usage)
    usage_csv = Call(read_usage_csv)
    storage = Call(read_storage)
    health = Call(get_health)
    ready = Call(get_readiness)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.sender.settings.base_url!r})"

    def close(self) -> None:
        """Close the connections."""
        self.sender.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
