"""Fixtures for the command line's tests."""

from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from headmix.cli import build_app
from tests.client.fake_server import FakeServer

Run = Callable[..., Result]


@pytest.fixture
def run(server: FakeServer) -> Run:
    """Run `headmix ARGS...` against the scripted server; `stdin` is the input."""

    def invoke(*args: str, stdin: str | None = None) -> Result:
        environment = {"HEADMIX_BASE_URL": server.url, "HEADMIX_API_KEY": "hm_key"}
        return CliRunner().invoke(build_app(), args, input=stdin, env=environment, prog_name="headmix")

    return invoke
