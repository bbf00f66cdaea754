import threading

import pytest

from headmix_server.catalog.bytes.holds import Holds


def test_only_the_last_of_several_holds_is_reported_and_each_counts_once() -> None:
    last: list[str] = []
    holds = Holds()
    holds.watch(last.append)
    first, second = holds.acquire("a"), holds.acquire("a")
    holds.acquire("b")
    for _ in range(3):
        first.release()
    assert (last, holds.is_held("a")) == ([], True)
    second.release()
    assert (last, holds.is_held("a")) == (["a"], False)
    assert holds.digests == {"b"}


def test_an_error_releases_a_hold_too() -> None:
    holds = Holds()
    with pytest.raises(ZeroDivisionError), holds.acquire("a"):
        _ = 1 // 0
    assert holds.digests == frozenset()


def test_a_held_artifact_or_one_being_freed_cannot_be_locked() -> None:
    holds = Holds()
    with holds.acquire("a"), holds.exclusively("a") as alone:
        assert not alone
    with holds.exclusively("a") as alone, holds.exclusively("a") as second:
        assert (alone, second) == (True, False)
        with holds.exclusively("b") as other:
            assert other


def test_a_hold_waits_while_the_bytes_are_being_freed() -> None:
    holds = Holds()
    order: list[str] = []

    def come() -> None:
        with holds.acquire("a"):
            order.append("held")

    with holds.exclusively("a"):
        threads = [threading.Thread(target=come) for _ in range(3)]
        for thread in threads:
            thread.start()
        order.append("freed")
    for thread in threads:
        thread.join()
    assert order == ["freed", "held", "held", "held"]


def test_every_hold_of_many_threads_is_back_in_the_end() -> None:
    last: list[str] = []
    holds = Holds()
    holds.watch(last.append)

    def use() -> None:
        for number in range(200):
            with holds.acquire(f"{number % 3}"):
                pass

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert holds.digests == frozenset()
    assert set(last) == {"0", "1", "2"}
