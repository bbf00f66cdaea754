"""How a client is configured."""

import pytest

from headmix import Client, InvalidArgumentError
from headmix.config import DEFAULT_BASE_URL, Settings


def resolve(base_url: str | None = None, api_key: str | None = None) -> Settings:
    return Settings.resolve(base_url, api_key, 10.0, 2)


def test_arguments_come_before_environment_before_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (resolve().base_url, resolve().api_key) == (DEFAULT_BASE_URL, None)
    monkeypatch.setenv("HEADMIX_BASE_URL", "http://env:1")
    monkeypatch.setenv("HEADMIX_API_KEY", "hm_env")
    assert (resolve().base_url, resolve().api_key) == ("http://env:1", "hm_env")
    assert resolve("https://arg:2", "hm_arg").base_url == "https://arg:2"
    assert resolve("https://arg:2", "hm_arg").headers()["Authorization"] == "Bearer hm_arg"


@pytest.mark.parametrize("given", ["http://host:1", "http://host:1/", "http://host:1/v1", "http://host:1/v1/"])
def test_a_base_url_may_end_as_other_clients_write_it(given: str) -> None:
    assert resolve(given).base_url == "http://host:1"


@pytest.mark.parametrize("given", ["host:8000", "ftp://host", "http://", "http://host:port"])
def test_a_url_that_cannot_be_asked_is_refused(given: str) -> None:
    with pytest.raises(InvalidArgumentError, match="base URL"):
        resolve(given)


@pytest.mark.parametrize("given", ["hm_\nkey", "clé", " "])
def test_a_key_no_header_can_carry_is_refused_without_being_shown(given: str) -> None:
    with pytest.raises(InvalidArgumentError, match="printable ASCII"):
        resolve(api_key=given)


def test_no_key_sends_no_authorization() -> None:
    assert "Authorization" not in resolve().headers()


def test_the_key_is_not_in_the_clients_repr() -> None:
    with Client("http://host:1", "hm_secret") as client:
        assert repr(client) == "Client('http://host:1')"
        assert "hm_secret" not in repr(client.sender.settings)


def test_connecting_is_given_less_time_than_answering() -> None:
    timeout = resolve().timeout
    assert (timeout.connect, timeout.read) == (5.0, 10.0)
    assert Settings.resolve(None, None, None, 0).timeout.read is None


def test_numbers_without_meaning_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="timeout"):
        Settings.resolve(None, None, 0, 0)
    with pytest.raises(InvalidArgumentError, match="max_retries"):
        Settings.resolve(None, None, 1, -1)
