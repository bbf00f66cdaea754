"""Shares, canaries and pins compared with a dictionary, in any order with uploads, rollbacks and deletions."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from headmix_server.catalog.rollout.sharing import Shares
from headmix_server.catalog.version import Canary
from headmix_server.core.errors import InvalidRequest, ModelNotFound
from tests.server.catalog.test_catalog_model import NAMES, TENANTS, CatalogMachine

OTHERS = ("b", "c")


@dataclass
class Beside:
    """A simple model of what an adapter has besides its versions."""

    current: int | None = None
    shares: Shares = field(default_factory=Shares)
    canary: Canary | None = None
    pinned: bool = False


class RolloutMachine(CatalogMachine):
    def __init__(self) -> None:
        super().__init__()
        self.beside: defaultdict[tuple[str, str], Beside] = defaultdict(Beside)

    def _exists(self, tenant: str, name: str) -> bool:
        return bool(self.paper[tenant, name].promotions)

    @rule(tenant=TENANTS, name=NAMES, whom=st.sets(st.sampled_from(OTHERS)), everyone=st.booleans())
    def share(self, tenant: str, name: str, whom: set[str], everyone: bool) -> None:
        shares = Shares(everyone=True) if everyone else Shares(tenants=tuple(sorted(whom)))
        try:
            self.catalog.sharing.change(tenant, name, shares)
        except ModelNotFound:
            assert not self._exists(tenant, name)
        else:
            self.beside[tenant, name].shares = shares

    @rule(tenant=TENANTS, name=NAMES, version=st.integers(1, 5), percent=st.sampled_from([0, 30, 100]))
    def start_canary(self, tenant: str, name: str, version: int, percent: int) -> None:
        model = self.paper[tenant, name]
        try:
            self.catalog.canaries.start(tenant, name, Canary(version, percent))
        except ModelNotFound:
            assert not self._exists(tenant, name) or version not in model.digests
        except InvalidRequest:
            assert version == model.promotions[-1]
        else:
            self.beside[tenant, name].canary = Canary(version, percent)

    @rule(tenant=TENANTS, name=NAMES)
    def promote(self, tenant: str, name: str) -> None:
        canary = self.beside[tenant, name].canary
        try:
            promoted = self.catalog.canaries.promote(tenant, name)
        except (ModelNotFound, InvalidRequest):
            assert canary is None
        else:
            assert canary is not None
            assert promoted.version == canary.version
            self.paper[tenant, name].promotions.append(canary.version)

    @rule(tenant=TENANTS, name=NAMES, pinned=st.booleans())
    def pin(self, tenant: str, name: str, pinned: bool) -> None:
        pins = self.catalog.pins
        try:
            (pins.add if pinned else pins.remove)(tenant, name)
        except ModelNotFound:
            assert not self._exists(tenant, name)
        else:
            self.beside[tenant, name].pinned = pinned

    @invariant()
    def what_is_beside_agrees(self) -> None:
        for key in self.paper:
            self._turn_page(key)
        pinned = {(version.tenant, version.name): version.version for version in self.catalog.pins.current()}
        assert pinned == {key: beside.current for key, beside in self.beside.items() if beside.pinned}
        for (tenant, name), beside in self.beside.items():
            if beside.current is None:
                continue
            assert self.catalog.sharing.of(tenant, name) == beside.shares
            drawn = Counter(self.catalog.resolve(tenant, name, draw=draw).version for draw in range(0, 100, 10))
            meeting = 0 if beside.canary is None else beside.canary.percent // 10
            assert drawn[beside.current] == 10 - meeting

    @invariant()
    def everybody_sees_what_is_shared_and_nothing_else(self) -> None:
        for grantee in OTHERS:
            seen = {version.called_by(grantee) for version in self.catalog.sharing.visible(grantee).versions}
            assert seen == {
                f"{tenant}/{name}"
                for (tenant, name), beside in self.beside.items()
                if self._exists(tenant, name) and (beside.shares.everyone or grantee in beside.shares.tenants)
            }

    def _turn_page(self, key: tuple[str, str]) -> None:
        """Update the model: a deleted adapter has nothing left, and a new current version ends the canary."""
        promotions = self.paper[key].promotions
        current = promotions[-1] if promotions else None
        if current is None:
            self.beside[key] = Beside()
        elif current != self.beside[key].current:
            self.beside[key].current, self.beside[key].canary = current, None


TestRolloutAgreesWithPaper = RolloutMachine.TestCase
TestRolloutAgreesWithPaper.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
