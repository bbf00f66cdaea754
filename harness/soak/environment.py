"""The environment of a walk: an engine on the real runner, with the real catalog and store, in this process.

Changes to the registry do what the API's routes do: a file is verified in full before it is published, and the engine
drops what a deletion frees. Loads finish only at fixed points, so that a seed always gives the same walk.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from harness.engine.bold_lookup import BoldLookup
from harness.engine.listed_grammar import ListedCompiler
from harness.soak.contents import Content, Contents
from harness.soak.fault_injection import PATIENCE_SECONDS, FaultInjectingRunner
from headmix_adapters.artifact import verify_artifact
from headmix_adapters.base import ResolvedBase
from headmix_server.catalog.bytes.store import ArtifactStore
from headmix_server.catalog.catalog import Catalog
from headmix_server.catalog.library import Library
from headmix_server.catalog.version import AdapterRecord, AdapterVersion, Published
from headmix_server.core.messages import ForgetAdapter, Output
from headmix_server.core.runner import Runner
from headmix_server.core.settings.settings import Settings
from headmix_server.core.types import AdapterRef
from headmix_server.database import open_database
from headmix_server.engine.loop import Engine
from headmix_server.engine.report import make_report
from headmix_server.engine.speculation.speculation import Speculation
from headmix_server.worker import build_runner

MOST_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Sizes:
    """The engine's sizes: small, so that slots, host memory and cache are always scarce."""

    adapter_slots: int = 3
    host_adapters: int = 2
    kv_blocks: int = 28
    block_size: int = 4
    max_batch_tokens: int = 40
    max_running: int = 8
    loader_threads: int = 1
    speculative_tokens: int = 4


class Environment:
    """`wrap` may wrap the runner; tests of the walk use it to see the walk fail."""

    def __init__(
        self, base: ResolvedBase, folder: Path, sizes: Sizes, wrap: Callable[[Runner], Runner] = lambda runner: runner
    ) -> None:
        settings = Settings(
            base=str(base.folder),
            threads=1,
            kv_cache_mib=1,
            block_size=sizes.block_size,
            adapter_slots=sizes.adapter_slots,
            host_adapters=sizes.host_adapters,
            max_batch_tokens=sizes.max_batch_tokens,
            max_running=sizes.max_running,
            loader_threads=sizes.loader_threads,
            speculative_tokens=sizes.speculative_tokens,
        )
        runner, limits = build_runner(settings, base)
        if limits.kv_blocks < sizes.kv_blocks:
            raise ValueError(f"the cache has {limits.kv_blocks} blocks, {sizes.kv_blocks} are to be used")
        self.now = 0.0
        self.limits = replace(limits, kv_blocks=sizes.kv_blocks)
        self.runner = FaultInjectingRunner(wrap(runner))
        self.engine = Engine(self.runner.as_runner, self.limits, compiler=ListedCompiler(), clock=lambda: self.now)
        if sizes.speculative_tokens:
            self.engine.scheduler.speculation = Speculation(sizes.speculative_tokens, BoldLookup)
        self.contents = Contents(folder / "contents", base.shape)
        self.base = base.shape
        self._database = open_database(folder / "headmix.db")
        self._freed: list[str] = []
        store = ArtifactStore(folder / "artifacts")
        catalog = Catalog(self._database, reserved={base.name})
        self.library = Library(catalog, store, base=base.shape.fingerprint, on_freed=self._freed.append)
        self.evictions: Counter[str] = Counter()
        self.prefix_hits = 0
        self.accepted_tokens = 0

    # --- the registry --------------------------------------------------------------------------------------------

    def upload(self, tenant: str, name: str, data: bytes) -> Published:
        """Publish a file as the API does.

        Raises:
            ArtifactError: it is not a valid artifact for this base; nothing has changed.
        """
        with self.library.store.receive(max_bytes=MOST_BYTES) as upload:
            upload.write(data)
            upload.finish()
            artifact = verify_artifact(upload.path, base=self.base)
            record = AdapterRecord(
                digest=upload.digest,
                base=self.base.fingerprint,
                size_bytes=artifact.size_bytes,
                num_parameters=artifact.num_parameters,
                config=artifact.config,
            )
            return self.library.publish(tenant, name, upload, record)

    def resolve(self, tenant: str, model: str) -> tuple[AdapterVersion, AdapterRef]:
        """Return the adapter a tenant's request names, as the API would pass it to the engine."""
        version = self.library.catalog.resolve(tenant, model)
        return version, self.library.ref(version)

    def delete(self, tenant: str, name: str) -> tuple[str, ...]:
        """Delete an adapter; make the engine drop the digests that are no longer referenced, and return them."""
        self.library.delete(tenant, name)
        freed = tuple(self._freed)
        self._freed.clear()
        for digest in freed:
            self.engine.forget(ForgetAdapter(digest=digest))
        return freed

    def stored(self, content: Content) -> bool:
        """Whether the store has the artifact's file."""
        return self.library.store.path(content.digest).exists()

    # --- the engine ----------------------------------------------------------------------------------------------

    def step(self, seconds: float = 0.01) -> list[Output]:
        """Let the loads in progress finish, unless the disk is stopped, and the grammars; then run one step."""
        self.now += seconds
        self._wait_for_loads()
        self._wait_for_grammars()
        outputs = self.engine.step()
        report = make_report(self.engine)
        self.evictions.update(report.evictions)
        self.prefix_hits += report.prefix_hits
        self.accepted_tokens += report.accepted_tokens
        return outputs

    def _wait_for_loads(self) -> None:
        """Wait until every load is in the engine's queue, so that each walk of a seed sees the same states."""
        deadline, loader = time.monotonic() + PATIENCE_SECONDS, self.engine.tiers._loader  # noqa: SLF001
        while self.runner.disk_runs and loader._done.qsize() < loader.num_pending:  # noqa: SLF001
            if time.monotonic() > deadline:
                raise TimeoutError("a load never ended")
            time.sleep(0.0001)

    def _wait_for_grammars(self) -> None:
        """Wait until every grammar is compiled, for the same reason."""
        deadline, grammars = time.monotonic() + PATIENCE_SECONDS, self.engine._grammars  # noqa: SLF001
        while grammars._done.qsize() < grammars.num_pending:  # noqa: SLF001
            if time.monotonic() > deadline:
                raise TimeoutError("a grammar never was compiled")
            time.sleep(0.0001)

    def stop_disk(self) -> None:
        """Keep loads from finishing."""
        self._wait_for_loads()
        self.runner.stop_disk()

    def close(self) -> None:
        """Stop the threads."""
        self.runner.clear_faults()
        self.engine.close()
        self._database.dispose()
