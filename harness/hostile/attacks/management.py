"""Attacks on the routes that manage adapters: pinning other tenants' bytes, and as many writes as possible."""

from harness.hostile.attacks.attack import Attack, AttackClient, with_field

DONE = frozenset({200, 201})
REFUSED = frozenset({400, 404, 409, 413, 422, 507})


async def pin_shared_bytes(client: AttackClient) -> None:
    """Upload the bytes of adapters that others share, and pin them: the tenant that pins must be charged for them."""
    for place, shared in enumerate(client.resources.shared):
        owner, _, name = shared.partition("/")
        file = await client.ask("GET", f"/v1/adapters/{name}/file", DONE, params={"owner": owner})
        if file.status_code != 200:
            continue
        await client.upload(f"pinned-{place}", file.content, DONE | REFUSED)
        await client.ask("POST", f"/v1/adapters/pinned-{place}/pin", DONE | REFUSED)


async def pin_own_adapters(client: AttackClient) -> None:
    """Pin as many of its own adapters as possible."""
    name = client.rng.choice(client.resources.adapters)
    await client.ask("POST", f"/v1/adapters/{name}/pin", DONE | REFUSED)


async def write_on_and_on(client: AttackClient) -> None:
    """Share and unshare an adapter."""
    path = f"/v1/adapters/{client.rng.choice(client.resources.adapters)}/sharing"
    await client.ask("PUT", path, DONE, json={"everyone": True})
    await client.ask("DELETE", path, DONE)


async def upload_on_and_on(client: AttackClient) -> None:
    """Publish one version after another under one name."""
    number = client.rng.randrange(10**9)
    file = with_field(client.read("plain.safetensors"), "created_by", f'"version {number}"')
    await client.upload("versions", file, DONE | REFUSED)


async def list_everything(client: AttackClient) -> None:
    """Request every list there is."""
    for path in ("/v1/models", "/v1/adapters?limit=1000", "/v1/usage"):
        await client.ask("GET", path, DONE)


ATTACKS = (
    Attack("pin_shared_bytes", 11, "pins of bytes that others have loaded", pin_shared_bytes),
    Attack("pin_own_adapters", 11, "pins without end", pin_own_adapters),
    Attack("many_writers", 12, "60 writes at a time", write_on_and_on, clients=60),
    Attack("many_versions", 12, "8 uploads of a new version at a time", upload_on_and_on, clients=8),
    Attack("many_lists", 9, "every list there is, 8 at a time", list_everything, clients=8),
)
