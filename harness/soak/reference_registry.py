"""An in-memory reference for the registry: what each tenant's names must resolve to after every change."""

from dataclasses import dataclass, field

from harness.soak.contents import Content


@dataclass(slots=True)
class Entry:
    """One adapter: its versions by number, and those that were made current, in order."""

    last: int = 0
    versions: dict[int, Content] = field(default_factory=dict)
    promotions: list[int] = field(default_factory=list)


class ReferenceRegistry:
    """Every tenant's names."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}

    def upload(self, tenant: str, name: str, content: Content) -> int:
        """Record an upload; return the version that is current after it."""
        entry = self._entries.setdefault((tenant, name), Entry())
        if not entry.promotions or entry.versions[entry.promotions[-1]] != content:
            entry.last += 1
            entry.versions[entry.last] = content
            entry.promotions.append(entry.last)
        return entry.promotions[-1]

    def resolve(self, tenant: str, name: str, version: int | None = None) -> tuple[int, Content] | None:
        """Return what the name, or one of its versions, refers to, or None if it does not exist."""
        entry = self._entries.get((tenant, name), Entry())
        number = version if version is not None else entry.promotions[-1] if entry.promotions else 0
        content = entry.versions.get(number)
        return None if content is None else (number, content)

    def rollback(self, tenant: str, name: str, version: int | None) -> int | None:
        """Record a rollback; return the version that is current after it, or None if it must be refused."""
        entry = self._entries.get((tenant, name), Entry())
        if version is None:
            if len(entry.promotions) < 2:
                return None
            entry.promotions.pop()
        elif version not in entry.versions:
            return None
        elif version != entry.promotions[-1]:
            entry.promotions.append(version)
        return entry.promotions[-1]

    def delete(self, tenant: str, name: str) -> bool:
        """Record a deletion; return false if there is nothing to delete. Version numbers are never reused."""
        entry = self._entries.get((tenant, name), Entry())
        known = bool(entry.promotions)
        entry.versions.clear()
        entry.promotions.clear()
        return known

    def names(self, tenant: str) -> dict[str, int]:
        """Return the tenant's adapters with their current versions."""
        return {
            name: entry.promotions[-1]
            for (owner, name), entry in self._entries.items()
            if owner == tenant and entry.promotions
        }

    def digests(self) -> set[str]:
        """Return every artifact that some version refers to."""
        return {content.digest for entry in self._entries.values() for content in entry.versions.values()}
