"""The control groups (v1 and v2) that limit this process: its own and all its ancestors, for one controller."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

ROOT = Path("/")


class _Mount(NamedTuple):
    """A mounted hierarchy of control groups: `top` is the group mounted at `place`."""

    place: Path
    top: PurePosixPath
    version: int


def control_groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the process's own groups and all their ancestors: each may have a limit, and all apply."""
    own = {1: "", 2: ""}
    for line in read_lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            own[2] = path
        elif controller in controllers.split(","):
            own[1] = path
    for mount in _mounts(root, controller):
        group = PurePosixPath(own[mount.version])
        below = group.relative_to(mount.top) if group.is_relative_to(mount.top) else PurePosixPath()
        # In a container without its own cgroup namespace the path is the host's, and the own group is mounted on top.
        folder = mount.place / below if ".." not in below.parts else mount.place
        yield folder
        for parent in folder.parents:
            if not parent.is_relative_to(mount.place):
                break
            yield parent


def _mounts(root: Path, controller: str) -> Iterator[_Mount]:
    for line in read_lines(root / "proc/self/mountinfo"):
        fields, _, rest = line.partition(" - ")
        _, _, _, top, place, *_ = fields.split(" ")
        kind, _, options = rest.split(" ", 2)
        if kind == "cgroup2" or (kind == "cgroup" and controller in options.split(",")):
            yield _Mount(root / place.lstrip("/"), PurePosixPath(top), 2 if kind == "cgroup2" else 1)


def read_lines(path: Path) -> list[str]:
    """Return a file's lines, or none if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
