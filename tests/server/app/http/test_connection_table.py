"""Which connections are kept when there are too many."""

from headmix_server.app.http.connection_table import ConnectionTable


class Connection:
    def __init__(self) -> None:
        self.closed = False

    def give_way(self) -> None:
        self.closed = True


def test_the_one_that_has_waited_longest_makes_room() -> None:
    table = ConnectionTable(3)
    first, second, third, fourth = (Connection() for _ in range(4))
    for connection in (first, second, third):
        assert table.add(connection)
    table.serves(first)
    table.waits(first)  # it has just been answered
    assert table.add(fourth)
    assert [connection.closed for connection in (first, second, third, fourth)] == [False, True, False, False]
    assert len(table) == 3


def test_none_that_serves_a_request_is_closed_for_a_new_one() -> None:
    table = ConnectionTable(2)
    serving = [Connection(), Connection()]
    for connection in serving:
        table.add(connection)
        table.serves(connection)
    assert not table.add(Connection())
    assert not any(connection.closed for connection in serving)
    table.remove(serving[0])
    assert table.add(Connection())


def test_the_observer_is_called_for_each_connection_closed_or_refused() -> None:
    heard = []
    table = ConnectionTable(1)
    table.watch_full(lambda: heard.append(len(table)))
    first = Connection()
    table.add(first)
    assert (len(table), table.num_waiting, heard) == (1, 1, [])
    second = Connection()
    table.add(second)
    assert len(heard) == 1
    table.serves(second)
    assert (len(table), table.num_waiting) == (1, 0)
    table.add(Connection())
    assert len(heard) == 2


def test_a_connection_that_is_gone_no_longer_waits() -> None:
    table = ConnectionTable(1)
    gone, new = Connection(), Connection()
    table.add(gone)
    table.remove(gone)
    table.waits(gone)
    assert table.add(new)
    assert not gone.closed
    assert len(table) == 1
