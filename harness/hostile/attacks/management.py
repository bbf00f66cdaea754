"""Attacks on the routes that manage adapters: pins of others' bytes, and as many writes as go."""

from harness.hostile.attacks.attack import Attack, Hands, with_field

DONE = frozenset({200, 201})
REFUSED = frozenset({400, 404, 409, 413, 422, 507})


async def pin_shared_bytes(hands: Hands) -> None:
    """Upload the bytes of adapters that others share, and pin them: whoever pins must be who is charged."""
    for place, shared in enumerate(hands.have.shared):
        owner, _, name = shared.partition("/")
        file = await hands.ask("GET", f"/v1/adapters/{name}/file", DONE, params={"owner": owner})
        if file.status_code != 200:
            continue
        await hands.upload(f"pinned-{place}", file.content, DONE | REFUSED)
        await hands.ask("POST", f"/v1/adapters/pinned-{place}/pin", DONE | REFUSED)


async def pin_own_adapters(hands: Hands) -> None:
    """Pin as many adapters of its own as go."""
    name = hands.rng.choice(hands.have.adapters)
    await hands.ask("POST", f"/v1/adapters/{name}/pin", DONE | REFUSED)


async def write_on_and_on(hands: Hands) -> None:
    """Share an adapter and take it back."""
    path = f"/v1/adapters/{hands.rng.choice(hands.have.adapters)}/sharing"
    await hands.ask("PUT", path, DONE, json={"everyone": True})
    await hands.ask("DELETE", path, DONE)


async def upload_on_and_on(hands: Hands) -> None:
    """Publish version after version of one name."""
    number = hands.rng.randrange(10**9)
    file = with_field(hands.read("plain.safetensors"), "created_by", f'"version {number}"')
    await hands.upload("versions", file, DONE | REFUSED)


async def list_everything(hands: Hands) -> None:
    """Ask for every list there is."""
    for path in ("/v1/models", "/v1/adapters?limit=1000", "/v1/usage"):
        await hands.ask("GET", path, DONE)


ATTACKS = (
    Attack("pin_shared_bytes", 11, "pins of bytes that others have loaded", pin_shared_bytes),
    Attack("pin_own_adapters", 11, "pins without end", pin_own_adapters),
    Attack("many_writers", 12, "60 writes at a time", write_on_and_on, clients=60),
    Attack("many_versions", 12, "8 uploads of a new version at a time", upload_on_and_on, clients=8),
    Attack("many_lists", 9, "every list there is, 8 at a time", list_everything, clients=8),
)
