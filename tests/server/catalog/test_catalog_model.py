"""The catalog compared with a dictionary: both agree after any operations in any order."""

import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from harness.adapters.records import digest_of, record_of
from headmix_server.catalog.catalog import Catalog
from headmix_server.core.errors import InvalidRequest, ModelNotFound
from headmix_server.database import open_database

TENANTS = st.sampled_from(["acme", "other"])
NAMES = st.sampled_from(["a", "b"])
CONTENTS = st.sampled_from([b"1", b"2", b"3"])


@dataclass
class Model:
    """A simple model of one adapter."""

    last: int = 0
    digests: dict[int, str] = field(default_factory=dict)
    promotions: list[int] = field(default_factory=list)


class CatalogMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.engine = open_database(Path(self.folder.name) / "catalog.db")
        self.catalog = Catalog(self.engine)
        self.paper: defaultdict[tuple[str, str], Model] = defaultdict(Model)

    def teardown(self) -> None:
        self.engine.dispose()
        self.folder.cleanup()

    @rule(tenant=TENANTS, name=NAMES, content=CONTENTS)
    def publish(self, tenant: str, name: str, content: bytes) -> None:
        model, digest = self.paper[tenant, name], digest_of(content)
        published = self.catalog.publish(tenant, name, record_of(content))
        current = model.digests[model.promotions[-1]] if model.promotions else None
        assert published.created == (current != digest)
        if published.created:
            model.last += 1
            model.digests[model.last] = digest
            model.promotions.append(model.last)
        assert published.version.version == model.promotions[-1]

    @rule(tenant=TENANTS, name=NAMES, version=st.none() | st.integers(1, 5))
    def rollback(self, tenant: str, name: str, version: int | None) -> None:
        model = self.paper[tenant, name]
        try:
            result = self.catalog.rollback(tenant, name, version)
        except ModelNotFound:
            assert not model.promotions or (version is not None and version not in model.digests)
        except InvalidRequest:
            assert version is None
            assert len(model.promotions) == 1
        else:
            if version is None:
                model.promotions.pop()
            elif version != model.promotions[-1]:
                model.promotions.append(version)
            assert result.version == model.promotions[-1]

    @rule(tenant=TENANTS, name=NAMES)
    def delete(self, tenant: str, name: str) -> None:
        model = self.paper[tenant, name]
        gone = set(model.digests.values())
        try:
            deleted = self.catalog.delete(tenant, name)
        except ModelNotFound:
            assert not model.promotions
        else:
            assert set(deleted.versions) == set(model.digests)
            model.digests.clear()
            model.promotions.clear()
            assert set(deleted.digests) == gone

    @rule(tenant=TENANTS, name=NAMES, number=st.none() | st.integers(1, 5))
    def resolve(self, tenant: str, name: str, number: int | None) -> None:
        model = self.paper[tenant, name]
        try:
            found = self.catalog.resolve(tenant, name if number is None else f"{name}@{number}")
        except ModelNotFound:
            assert not model.promotions or (number is not None and number not in model.digests)
        else:
            assert found.version == (number if number is not None else model.promotions[-1])
            assert found.digest == model.digests[found.version]
            assert found.current == (found.version == model.promotions[-1])

    @invariant()
    def lists_agree(self) -> None:
        assert self.catalog.referenced_digests() == self._referenced()
        for tenant in ("acme", "other"):
            listed = {version.name: version.version for version in self.catalog.list(tenant)}
            paper = {name: model.promotions[-1] for (owner, name), model in self._live() if owner == tenant}
            assert listed == paper

    def _live(self) -> list[tuple[tuple[str, str], Model]]:
        return [(key, model) for key, model in self.paper.items() if model.promotions]

    def _referenced(self) -> set[str]:
        return {digest for _, model in self._live() for digest in model.digests.values()}


TestCatalogAgreesWithPaper = CatalogMachine.TestCase
TestCatalogAgreesWithPaper.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
