"""The limit on open files is raised to fit the connections, or else the connections are reduced to fit the limit."""

import resource

import pytest

from headmix_server.app.http.descriptors import RESERVED, room_for_connections


class Limits:
    """A process's limits; `soft` can be raised."""

    def __init__(self, soft: int, hard: int, fixed: bool = False) -> None:
        self.soft, self.hard, self.fixed = soft, hard, fixed

    def get(self, _: int) -> tuple[int, int]:
        return self.soft, self.hard

    def set(self, _: int, limits: tuple[int, int]) -> None:
        if self.fixed:
            raise ValueError("not allowed to raise maximum limit")
        self.soft = limits[0]


@pytest.mark.parametrize(
    ("limits", "soft", "room"),
    [
        (Limits(1024, 1_000_000), 4096 + RESERVED, 4096),
        (Limits(1_000_000, 1_000_000), 1_000_000, 4096),
        (Limits(resource.RLIM_INFINITY, resource.RLIM_INFINITY), resource.RLIM_INFINITY, 4096),
        (Limits(256, resource.RLIM_INFINITY), 4096 + RESERVED, 4096),
        (Limits(1024, 2048), 2048, 2048 - RESERVED),
        (Limits(1024, 1_000_000, fixed=True), 1024, 512),
        (Limits(256, 256), 256, 128),
    ],
)
def test_the_limit_is_raised_as_far_as_needed_and_allowed(
    monkeypatch: pytest.MonkeyPatch, limits: Limits, soft: int, room: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", limits.get)
    monkeypatch.setattr(resource, "setrlimit", limits.set)
    assert room_for_connections(4096) == room
    assert limits.soft == soft
