"""How many invalid keys an address may send."""

from headmix_server.tenancy import failed_keys
from headmix_server.tenancy.failed_keys import KNOWN_SECONDS, FailedKeys, network_of

HERE, THERE = "192.0.2.1", "192.0.2.2"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_guesses_come_back_with_time() -> None:
    clock = Clock()
    keys = FailedKeys(6, clock=clock)
    for _ in range(6):
        assert keys.wait(HERE, "guess") == 0
        keys.failed(HERE)
    assert keys.wait(HERE, "guess") == 10
    assert keys.wait(THERE, "guess") == 0
    clock.now += 4
    assert keys.wait(HERE, "guess") == 6
    clock.now += 6
    assert keys.wait(HERE, "guess") == 0
    keys.failed(HERE)
    assert keys.wait(HERE, "guess") == 10
    clock.now += 10_000
    for _ in range(6):
        assert keys.wait(HERE, "guess") == 0
        keys.failed(HERE)
    assert keys.wait(HERE, "guess") == 10


def test_a_key_that_was_valid_lately_is_always_looked_up() -> None:
    clock = Clock()
    keys = FailedKeys(1, clock=clock)
    keys.succeeded("known")
    keys.failed(HERE)
    assert keys.wait(HERE, "guess") > 0
    assert keys.wait(HERE, "known") == 0
    clock.now += KNOWN_SECONDS - 0.1
    keys.failed(HERE)
    assert keys.wait(HERE, "known") == 0
    clock.now += 0.1
    assert keys.wait(HERE, "known") > 0


def test_without_a_limit_nothing_is_counted() -> None:
    keys = FailedKeys(0)
    for _ in range(1000):
        keys.failed(HERE)
    assert keys.wait(HERE, "guess") == 0


def test_a_network_of_ipv6_is_one_address() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") != network_of("2001:db8:0:1::1")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1")
    assert network_of("testclient") == "testclient"


def test_what_is_remembered_is_bounded() -> None:
    keys = FailedKeys(1)
    for number in range(failed_keys._MOST_REMEMBERED + 10):
        keys.failed(f"host-{number}")
        keys.succeeded(f"key-{number}")
    assert len(keys._left) == len(keys._known) == failed_keys._MOST_REMEMBERED
