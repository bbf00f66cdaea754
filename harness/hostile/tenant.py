"""One tenant of the experiment: its name, its keys, and how it is created over the admin API."""

from dataclasses import dataclass

import httpx2

SCOPES = ("inference", "adapters")
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant with a valid key and a revoked one."""

    name: str
    key: str
    revoked: str

    def connect(self, base_url: str) -> httpx2.AsyncClient:
        """Return a client that sends the valid key."""
        headers = {"Authorization": f"Bearer {self.key}"}
        limits = httpx2.Limits(max_connections=None)
        return httpx2.AsyncClient(base_url=base_url, headers=headers, timeout=PATIENCE_SECONDS, limits=limits)


async def make_tenant(admin: httpx2.AsyncClient, name: str, limits: dict[str, int]) -> Tenant:
    """Create a tenant with these limits (in the format of `PATCH /v1/tenants/{tenant}/limits`)."""
    (await admin.post("/v1/tenants", json={"name": name})).raise_for_status()
    (await admin.patch(f"/v1/tenants/{name}/limits", json=limits)).raise_for_status()
    valid, revoked = [await _make_key(admin, name) for _ in range(2)]
    (await admin.delete(f"/v1/tenants/{name}/keys/{revoked[0]}")).raise_for_status()
    return Tenant(name, valid[1], revoked[1])


async def _make_key(admin: httpx2.AsyncClient, tenant: str) -> tuple[str, str]:
    answer = await admin.post(f"/v1/tenants/{tenant}/keys", json={"scopes": list(SCOPES), "name": None})
    made = answer.raise_for_status().json()
    return str(made["id"]), str(made["key"])
