import socket

import pytest

from headmix_server.app.errors import SettingError, StartError
from headmix_server.app.http.listen import listen, url_of


def test_port_zero_takes_a_free_one_that_the_url_names() -> None:
    with listen("127.0.0.1", 0) as listener:
        assert url_of(listener, "127.0.0.1") == f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_port_in_use_is_reported_with_its_number() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(StartError, match=rf"port {port}: address already in use"):
            listen("127.0.0.1", port)


def test_an_address_of_another_machine_is_reported() -> None:
    with pytest.raises(SettingError, match=r"takes an address of this machine.*, not '192\.0\.2\.1'"):
        listen("192.0.2.1", 0)


def test_every_address_is_reached_by_the_loopback() -> None:
    with listen("0.0.0.0", 0) as listener:
        assert url_of(listener, "0.0.0.0").startswith("http://127.0.0.1:")
        assert url_of(listener, "::").startswith("http://[::1]:")


def test_the_second_write_of_a_response_does_not_wait_for_an_acknowledgement() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
