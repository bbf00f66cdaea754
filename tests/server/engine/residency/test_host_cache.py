"""Host memory keeps the most recently used adapters, up to its capacity."""

from headmix_server.engine.fake_runner import FakeAdapter
from headmix_server.engine.residency.host_cache import HostCache
from tests.support.tenant_shares import make_shares


def test_the_least_recently_used_is_dropped_first() -> None:
    cache = HostCache(2, make_shares())
    assert cache.put(FakeAdapter("a"), "t") == []
    assert cache.put(FakeAdapter("b"), "t") == []
    assert cache.get("a") == FakeAdapter("a")
    assert cache.put(FakeAdapter("c"), "t") == ["b"]
    assert cache.digests() == ["a", "c"]
    assert "b" not in cache
    assert cache.get("b") is None


def test_putting_again_refreshes_and_drops_nothing() -> None:
    cache = HostCache(2, make_shares())
    for digest in "aba":
        assert cache.put(FakeAdapter(digest), "t") == []
    assert cache.digests() == ["b", "a"]


def test_a_cache_of_nothing_keeps_and_drops_nothing() -> None:
    cache = HostCache(0, make_shares())
    assert cache.put(FakeAdapter("a"), "t") == []
    assert cache.digests() == []


def test_forgetting_is_final_and_harmless_twice() -> None:
    cache = HostCache(2, make_shares())
    cache.put(FakeAdapter("a"), "t")
    cache.forget("a")
    cache.forget("a")
    assert "a" not in cache


def test_what_queued_requests_want_stays_longest() -> None:
    cache = HostCache(2, make_shares())
    for digest in "ab":
        cache.put(FakeAdapter(digest), "t")
    assert cache.put(FakeAdapter("c"), "t", {"a": 0}) == ["b"]
    assert cache.put(FakeAdapter("d"), "t", {"a": 1, "d": 2, "c": 0}) == ["d"]
    assert cache.digests() == ["a", "c"]


def test_the_tenant_that_holds_most_makes_room() -> None:
    cache = HostCache(3, make_shares("tu"))
    for digest, tenant in (("mine", "u"), ("a", "t"), ("b", "t")):
        cache.put(FakeAdapter(digest), tenant)
    assert [cache.put(FakeAdapter(digest), "t") for digest in "cd"] == [["a"], ["b"]]
    assert "mine" in cache
    cache.check_integrity()


def test_who_holds_most_bytes_makes_room_though_others_hold_more_adapters() -> None:
    cache = HostCache(3, make_shares("ab"), 60)
    cache.put(FakeAdapter("a", size=80), "a")
    cache.put(FakeAdapter("b1", size=1), "b")
    cache.put(FakeAdapter("b2", size=1), "b")
    assert cache.put(FakeAdapter("b3", size=1), "b") == ["a"]
