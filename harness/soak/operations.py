"""What can happen in a walk, each with how often it does. An operation notes what it does before it does it."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from harness.soak.contents import Content
from harness.soak.environment import World
from harness.soak.reference_registry import Paper
from harness.soak.request_generator import Asker
from harness.soak.request_tracker import Desk
from harness.soak.tracked_request import WrongAnswerError
from headmix_adapters.artifact import ArtifactError
from headmix_server.core.errors import InvalidRequest, ModelNotFound
from headmix_server.core.messages import ForgetAdapter, LoadAdapter
from headmix_server.core.types import AdapterRef

TENANTS = ("acme", "globex", "initech")
NAMES = ("poet", "judge", "scribe", "clerk")
MOST_OPEN = 24


@dataclass(slots=True)
class Scene:
    """All an operation works with. `num_contents` artifacts are uploaded again and again, by all tenants."""

    rng: random.Random
    world: World
    desk: Desk
    paper: Paper
    asker: Asker
    num_contents: int
    note: Callable[[str], None]
    asked: int = 0
    cancelled: int = 0

    def request_id(self) -> str:
        """Return a name no request had before."""
        self.asked += 1
        return f"r{self.asked}"

    def place(self) -> tuple[str, str]:
        """Draw a tenant and a name."""
        return self.rng.choice(TENANTS), self.rng.choice(NAMES)

    def likely_place(self) -> tuple[str, str]:
        """Draw a tenant and a name that most often is one of the tenant's adapters."""
        tenant = self.rng.choice(TENANTS)
        return tenant, self.rng.choice([*NAMES, *(name for name in self.paper.names(tenant) for _ in range(8))])


def expect(what: str, found: object, due: object) -> None:
    """Hold what happened against what must.

    Raises:
        WrongAnswerError: they differ.
    """
    if found != due:
        raise WrongAnswerError(f"{what}: {found}, not {due}")


# --- requests ----------------------------------------------------------------------------------------------------


def ask(scene: Scene) -> None:
    """Generate, classify or embed with a name's current version, with a version of it, or with the base."""
    if len(scene.desk.open) >= MOST_OPEN:
        step(scene)
        return
    rng, request_id = scene.rng, scene.request_id()
    tenant, name = scene.likely_place()
    if rng.random() < 0.15:
        scene.note(f"{request_id}: {tenant} asks the base")
        scene.desk.submit(scene.asker.requests(request_id, tenant, None, None), None)
        return
    version = rng.randint(1, 4) if rng.random() < 0.15 else None
    model = name if version is None else f"{name}@{version}"
    found = _resolve(scene, tenant, model, version, name)
    scene.note(f"{request_id}: {tenant} asks {model}: " + ("nothing" if found is None else f"{found[1].number}"))
    if found is not None:
        ref, content = found
        scene.desk.submit(scene.asker.requests(request_id, tenant, ref, content), content)


def _resolve(
    scene: Scene, tenant: str, model: str, version: int | None, name: str
) -> tuple[AdapterRef, Content] | None:
    """Resolve a name in the catalog and on paper, which must agree."""
    due = scene.paper.resolve(tenant, name, version)
    try:
        found, ref = scene.world.resolve(tenant, model)
    except ModelNotFound:
        expect(f"{tenant}'s {model} is not found", None, due)
        return None
    expect(f"{tenant}'s {model}", (found.version, ref.digest), due and (due[0], due[1].digest))
    return None if due is None else (ref, due[1])


def ask_too_much(scene: Scene) -> None:
    """Ask for more tokens than there can be; refused, and nothing is taken."""
    request_id = scene.request_id()
    scene.note(f"{request_id}: too long")
    for ticket in scene.desk.submit([scene.asker.too_long(request_id, TENANTS[0])], None):
        ticket.excuse({"context_length_exceeded"})


def cancel(scene: Scene) -> None:
    """Disconnect."""
    if scene.desk.open:
        request_id = scene.rng.choice(list(scene.desk.open))
        scene.note(f"cancel {request_id}")
        scene.desk.cancel(request_id)
        scene.cancelled += 1


def load(scene: Scene) -> None:
    """Bring an adapter to the device ahead of requests."""
    tenant, name = scene.likely_place()
    found = _resolve(scene, tenant, name, None, name)
    if found is not None and len(scene.desk.open) < MOST_OPEN:
        request_id = scene.request_id()
        scene.note(f"{request_id}: load {tenant}'s {name}, {found[1].number}")
        scene.desk.submit([LoadAdapter(request_id=request_id, adapter=found[0])], found[1])


# --- the registry ------------------------------------------------------------------------------------------------


def upload(scene: Scene) -> None:
    """Publish an artifact, under a new name or one that has others."""
    tenant, name = scene.place()
    content = scene.world.contents.get(scene.rng.randrange(scene.num_contents))
    scene.note(f"{tenant} uploads {content.number} as {name}")
    before = scene.paper.resolve(tenant, name)
    published = scene.world.upload(tenant, name, content.path.read_bytes())
    version = scene.paper.upload(tenant, name, content)
    expect("the upload's version", (published.version.version, published.version.digest), (version, content.digest))
    expect("whether the upload made a version", published.created, before is None or before[1] != content)


def upload_garbage(scene: Scene) -> None:
    """Upload a damaged file; refused, and nothing has changed."""
    tenant, name = scene.place()
    data = bytearray(scene.world.contents.get(scene.rng.randrange(scene.num_contents)).path.read_bytes())
    del data[scene.rng.randrange(len(data)) :]
    scene.note(f"{tenant} uploads {len(data)} bytes of an artifact as {name}")
    try:
        scene.world.upload(tenant, name, bytes(data))
    except ArtifactError:
        return
    raise WrongAnswerError("half an artifact was taken for one")


def rollback(scene: Scene) -> None:
    """Make an earlier version current again."""
    tenant, name = scene.place()
    version = scene.rng.randint(1, 4) if scene.rng.random() < 0.5 else None
    scene.note(f"{tenant} rolls {name} back to {version or 'the last'}")
    due = scene.paper.rollback(tenant, name, version)
    try:
        found = scene.world.library.catalog.rollback(tenant, name, version).version
    except (ModelNotFound, InvalidRequest):
        expect("the rollback is refused", None, due)
        return
    expect("the version after the rollback", found, due)


def delete(scene: Scene) -> None:
    """Delete an adapter with all its versions, whoever runs with it."""
    tenant, name = scene.place()
    scene.note(f"{tenant} deletes {name}")
    due = scene.paper.delete(tenant, name)
    before = {ticket.content for ticket in scene.desk.open.values() if ticket.content is not None}
    try:
        freed = scene.world.delete(tenant, name)
    except ModelNotFound:
        expect("the deletion is refused", False, due)
        return
    expect("the deletion is accepted", True, due)
    expect("digests freed that are in use", sorted(set(freed) & scene.paper.digests()), [])
    gone = {content.digest for content in before if not scene.world.stored(content)}
    expect("files gone that are not freed", sorted(gone & scene.paper.digests()), [])
    scene.desk.excuse_missing(freed)


# --- the engine --------------------------------------------------------------------------------------------------


def step(scene: Scene) -> None:
    """Make a few steps."""
    count, seconds = scene.rng.randint(1, 3), scene.rng.choice((0.001, 0.01, 0.3))
    scene.note(f"{count} steps of {seconds} s")
    for _ in range(count):
        scene.desk.step(seconds)


def evict(scene: Scene) -> None:
    """Drop an artifact from every tier as soon as nobody needs it; it may be named again at any time."""
    content = scene.world.contents.get(scene.rng.randrange(scene.num_contents))
    scene.note(f"evict {content.number}")
    scene.world.engine.forget(ForgetAdapter(digest=content.digest))


def break_a_step(scene: Scene) -> None:
    """Let the next step fail."""
    scene.note("the next step fails")
    scene.world.runner.break_a_step()


def damage(scene: Scene) -> None:
    """Let an artifact's next load fail: its requests fail, and are never answered by the base."""
    content = scene.world.contents.get(scene.rng.randrange(scene.num_contents))
    scene.note(f"the next load of {content.number} fails")
    scene.world.runner.damage(content.digest)


def turn_disk(scene: Scene) -> None:
    """Let the disk stand still, or run again."""
    scene.note("the disk stops" if scene.world.runner.disk_runs else "the disk runs")
    if scene.world.runner.disk_runs:
        scene.world.stop_disk()
    else:
        scene.world.runner.start_disk()


OPERATIONS: Mapping[Callable[[Scene], None], int] = MappingProxyType(
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
