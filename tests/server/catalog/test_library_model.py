"""The library compared with a model: names, states, holds and files, for operations in any order.

At every moment a file exists exactly if a version refers to it or a request that could name it holds it; once
everything is deleted and released, nothing is left.
"""

import tempfile
from collections import defaultdict
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from harness.adapters.records import BASE, digest_of, record_of
from headmix_server.catalog.bytes.holds import Hold
from headmix_server.catalog.bytes.store import ArtifactStore
from headmix_server.catalog.catalog import Catalog
from headmix_server.catalog.library import Library
from headmix_server.catalog.version import VersionState
from headmix_server.core.errors import InvalidRequest, ModelNotFound
from headmix_server.database import open_database

NAMES = st.sampled_from([("acme", "a"), ("acme", "b"), ("other", "a")])
CONTENTS = st.sampled_from([b"1", b"2", b"3"])
NUMBERS = st.integers(1, 5)
Name = tuple[str, str]


class LibraryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name)
        self.engine = open_database(self.root / "catalog.db")
        self.freed: list[str] = []
        self.open()
        self.paper: defaultdict[Name, dict[int, tuple[bytes, VersionState]]] = defaultdict(dict)
        self.held: list[tuple[Hold, bytes]] = []

    def open(self) -> None:
        store = ArtifactStore(self.root / "artifacts")
        self.library = Library(Catalog(self.engine), store, base=BASE.fingerprint, on_freed=self.freed.append)

    def teardown(self) -> None:
        for name in list(self.paper):
            self.delete(name)
        while self.held:
            self.give_back(0)
        self.library.drain()
        assert self.files() == set()
        assert self.library.catalog.stored_digests() == frozenset()
        assert self.library.catalog.tombstones.digests() == frozenset()
        assert self.library.holds.digests == frozenset()
        self.library.close()
        self.engine.dispose()
        self.folder.cleanup()

    def files(self) -> set[str]:
        return {path.name for path in (self.root / "artifacts").rglob("*") if path.is_file()}

    @rule(name=NAMES, content=CONTENTS)
    def publish(self, name: Name, content: bytes) -> None:
        with self.library.store.receive(max_bytes=10) as upload:
            upload.write(content)
            published = self.library.publish(*name, upload, record_of(content))
        self.paper[name][published.version.version] = (content, VersionState.READY)

    @rule(name=NAMES, number=NUMBERS, state=st.sampled_from(VersionState))
    def set_state(self, name: Name, number: int, state: VersionState) -> None:
        known = self.paper[name].get(number)
        try:
            if state is VersionState.DELETED:
                self.library.delete_version(*name, number)
                del self.paper[name][number]
            else:
                self.library.catalog.set_state(*name, number, state)
                self.paper[name][number] = (self.paper[name][number][0], state)
        except ModelNotFound:
            assert known is None
        except InvalidRequest:
            assert self.library.catalog.resolve(*name).version == number

    @rule(name=NAMES)
    def delete(self, name: Name) -> None:
        try:
            self.library.delete(*name)
        except ModelNotFound:
            assert not self.paper[name]
        self.paper[name].clear()

    @rule(name=NAMES, number=st.none() | NUMBERS)
    def hold(self, name: Name, number: int | None) -> None:
        tenant, adapter = name
        known = self.paper[name].get(number) if number is not None else None
        try:
            version, hold = self.library.hold(tenant, adapter if number is None else f"{adapter}@{number}")
        except ModelNotFound:
            assert not self.paper[name] if number is None else known is None or known[1] is not VersionState.READY
        else:
            content = self.paper[name][version.version][0]
            assert version.digest == digest_of(content)
            self.held.append((hold, content))

    @rule(which=st.integers(0, 9))
    def give_back(self, which: int) -> None:
        if self.held:
            self.held.pop(which % len(self.held))[0].release()

    @rule()
    def restart(self) -> None:
        """Restart: a process that is gone holds nothing."""
        self.library.close()
        self.open()
        self.held.clear()
        assert self.library.start().missing == ()

    @invariant()
    def files_are_there_while_they_are_of_use(self) -> None:
        self.library.drain()
        referred = {content for versions in self.paper.values() for content, _ in versions.values()}
        used = referred | {content for _, content in self.held}
        assert self.files() == {f"{digest_of(content).removeprefix('sha256:')}.safetensors" for content in used}
        assert self.library.catalog.stored_digests() == {digest_of(content) for content in used}
        for _, content in self.held:
            assert self.library.store.path(digest_of(content)).read_bytes() == content


TestLibraryAgreesWithPaper = LibraryMachine.TestCase
TestLibraryAgreesWithPaper.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
