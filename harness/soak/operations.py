"""The operations of a walk and how often each occurs. An operation logs what it does before doing it."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from harness.soak.contents import Content
from harness.soak.environment import Environment
from harness.soak.reference_registry import ReferenceRegistry
from harness.soak.request_generator import RequestGenerator
from harness.soak.request_tracker import RequestTracker
from harness.soak.tracked_request import WrongAnswerError
from headmix_adapters.artifact import ArtifactError
from headmix_server.core.errors import InvalidRequest, ModelNotFound
from headmix_server.core.messages import ForgetAdapter, LoadAdapter
from headmix_server.core.types import AdapterRef

TENANTS = ("acme", "globex", "initech")
NAMES = ("poet", "judge", "scribe", "clerk")
MOST_OPEN = 24


@dataclass(slots=True)
class WalkState:
    """Everything an operation works with. All tenants keep uploading the same `num_contents` artifacts."""

    rng: random.Random
    environment: Environment
    tracker: RequestTracker
    registry: ReferenceRegistry
    generator: RequestGenerator
    num_contents: int
    log: Callable[[str], None]
    asked: int = 0
    cancelled: int = 0

    def request_id(self) -> str:
        """Return an id that no request had before."""
        self.asked += 1
        return f"r{self.asked}"

    def place(self) -> tuple[str, str]:
        """Draw a tenant and a name."""
        return self.rng.choice(TENANTS), self.rng.choice(NAMES)

    def likely_place(self) -> tuple[str, str]:
        """Draw a tenant and a name that usually is one of the tenant's adapters."""
        tenant = self.rng.choice(TENANTS)
        return tenant, self.rng.choice([*NAMES, *(name for name in self.registry.names(tenant) for _ in range(8))])


def expect(what: str, found: object, expected: object) -> None:
    """Compare what happened with what must happen.

    Raises:
        WrongAnswerError: they differ.
    """
    if found != expected:
        raise WrongAnswerError(f"{what}: {found}, not {expected}")


# --- requests ----------------------------------------------------------------------------------------------------


def ask(state: WalkState) -> None:
    """Generate, classify or embed with a name's current version, with a version of it, or with the base."""
    if len(state.tracker.open) >= MOST_OPEN:
        step(state)
        return
    rng, request_id = state.rng, state.request_id()
    tenant, name = state.likely_place()
    if rng.random() < 0.15:
        state.log(f"{request_id}: {tenant} asks the base")
        state.tracker.submit(state.generator.requests(request_id, tenant, None, None), None)
        return
    version = rng.randint(1, 4) if rng.random() < 0.15 else None
    model = name if version is None else f"{name}@{version}"
    found = _resolve(state, tenant, model, version, name)
    state.log(f"{request_id}: {tenant} asks {model}: " + ("nothing" if found is None else f"{found[1].number}"))
    if found is not None:
        ref, content = found
        state.tracker.submit(state.generator.requests(request_id, tenant, ref, content), content)


def _resolve(
    state: WalkState, tenant: str, model: str, version: int | None, name: str
) -> tuple[AdapterRef, Content] | None:
    """Resolve a name in the catalog and in the reference, which must agree."""
    expected = state.registry.resolve(tenant, name, version)
    try:
        found, ref = state.environment.resolve(tenant, model)
    except ModelNotFound:
        expect(f"{tenant}'s {model} is not found", None, expected)
        return None
    expect(f"{tenant}'s {model}", (found.version, ref.digest), expected and (expected[0], expected[1].digest))
    return None if expected is None else (ref, expected[1])


def ask_too_much(state: WalkState) -> None:
    """Request more tokens than possible; refused, and no resources are used."""
    request_id = state.request_id()
    state.log(f"{request_id}: too long")
    for request in state.tracker.submit([state.generator.too_long(request_id, TENANTS[0])], None):
        request.excuse({"context_length_exceeded"})


def cancel(state: WalkState) -> None:
    """Disconnect."""
    if state.tracker.open:
        request_id = state.rng.choice(list(state.tracker.open))
        state.log(f"cancel {request_id}")
        state.tracker.cancel(request_id)
        state.cancelled += 1


def load(state: WalkState) -> None:
    """Load an adapter onto the device before any request."""
    tenant, name = state.likely_place()
    found = _resolve(state, tenant, name, None, name)
    if found is not None and len(state.tracker.open) < MOST_OPEN:
        request_id = state.request_id()
        state.log(f"{request_id}: load {tenant}'s {name}, {found[1].number}")
        state.tracker.submit([LoadAdapter(request_id=request_id, adapter=found[0])], found[1])


# --- the registry ------------------------------------------------------------------------------------------------


def upload(state: WalkState) -> None:
    """Publish an artifact, under a new name or one that has others."""
    tenant, name = state.place()
    content = state.environment.contents.get(state.rng.randrange(state.num_contents))
    state.log(f"{tenant} uploads {content.number} as {name}")
    before = state.registry.resolve(tenant, name)
    published = state.environment.upload(tenant, name, content.path.read_bytes())
    version = state.registry.upload(tenant, name, content)
    expect("the upload's version", (published.version.version, published.version.digest), (version, content.digest))
    expect("whether the upload made a version", published.created, before is None or before[1] != content)


def upload_garbage(state: WalkState) -> None:
    """Upload a damaged file; refused, and nothing has changed."""
    tenant, name = state.place()
    data = bytearray(state.environment.contents.get(state.rng.randrange(state.num_contents)).path.read_bytes())
    del data[state.rng.randrange(len(data)) :]
    state.log(f"{tenant} uploads {len(data)} bytes of an artifact as {name}")
    try:
        state.environment.upload(tenant, name, bytes(data))
    except ArtifactError:
        return
    raise WrongAnswerError("half an artifact was taken for one")


def rollback(state: WalkState) -> None:
    """Make an earlier version current again."""
    tenant, name = state.place()
    version = state.rng.randint(1, 4) if state.rng.random() < 0.5 else None
    state.log(f"{tenant} rolls {name} back to {version or 'the last'}")
    expected = state.registry.rollback(tenant, name, version)
    try:
        found = state.environment.library.catalog.rollback(tenant, name, version).version
    except (ModelNotFound, InvalidRequest):
        expect("the rollback is refused", None, expected)
        return
    expect("the version after the rollback", found, expected)


def delete(state: WalkState) -> None:
    """Delete an adapter with all its versions, even while requests run with it."""
    tenant, name = state.place()
    state.log(f"{tenant} deletes {name}")
    expected = state.registry.delete(tenant, name)
    before = {request.content for request in state.tracker.open.values() if request.content is not None}
    try:
        freed = state.environment.delete(tenant, name)
    except ModelNotFound:
        expect("the deletion is refused", False, expected)
        return
    expect("the deletion is accepted", True, expected)
    expect("digests freed that are in use", sorted(set(freed) & state.registry.digests()), [])
    gone = {content.digest for content in before if not state.environment.stored(content)}
    expect("files gone that are not freed", sorted(gone & state.registry.digests()), [])
    state.tracker.excuse_missing(freed)


# --- the engine --------------------------------------------------------------------------------------------------


def step(state: WalkState) -> None:
    """Run a few steps."""
    count, seconds = state.rng.randint(1, 3), state.rng.choice((0.001, 0.01, 0.3))
    state.log(f"{count} steps of {seconds} s")
    for _ in range(count):
        state.tracker.step(seconds)


def evict(state: WalkState) -> None:
    """Drop an artifact from every tier as soon as it is unused; it may be named again at any time."""
    content = state.environment.contents.get(state.rng.randrange(state.num_contents))
    state.log(f"evict {content.number}")
    state.environment.engine.forget(ForgetAdapter(digest=content.digest))


def break_a_step(state: WalkState) -> None:
    """Make the next step fail."""
    state.log("the next step fails")
    state.environment.runner.break_a_step()


def damage(state: WalkState) -> None:
    """Make an artifact's next load fail: its requests fail, and are never answered by the base."""
    content = state.environment.contents.get(state.rng.randrange(state.num_contents))
    state.log(f"the next load of {content.number} fails")
    state.environment.runner.damage(content.digest)


def turn_disk(state: WalkState) -> None:
    """Stop the disk, or start it again."""
    state.log("the disk stops" if state.environment.runner.disk_runs else "the disk runs")
    if state.environment.runner.disk_runs:
        state.environment.stop_disk()
    else:
        state.environment.runner.start_disk()


OPERATIONS: Mapping[Callable[[WalkState], None], int] = MappingProxyType(
    {
        ask: 36,
        step: 30,
        cancel: 6,
        upload: 10,
        load: 3,
        rollback: 3,
        delete: 2,
        evict: 2,
        turn_disk: 2,
        break_a_step: 1,
        damage: 1,
        upload_garbage: 1,
        ask_too_much: 1,
    }
)
"""Every operation and its weight."""
