"""Tenants take turns, each in its own order, and nobody waits on a closed queue."""

import threading

from headmix_server.engine.background import TurnQueue


def test_tenants_take_turns_and_each_keeps_its_order() -> None:
    queue: TurnQueue[str] = TurnQueue()
    for item in ("a1", "a2", "a3", "b1", "c1", "b2"):
        queue.put(item[0], item)
    assert [queue.get() for _ in range(6)] == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_closing_wakes_who_waits_and_drops_what_is_queued() -> None:
    queue: TurnQueue[str] = TurnQueue()
    found: list[str | None] = []
    thread = threading.Thread(target=lambda: found.append(queue.get()))
    thread.start()
    queue.close()
    thread.join(10)
    queue.put("a", "a1")
    assert [*found, queue.get()] == [None, None]
