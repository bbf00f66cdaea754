import subprocess
import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from typer import Typer
from typer.main import get_command
from typer.testing import CliRunner

from headmix_server import cli
from headmix_server.core.settings.groups import GROUPS
from headmix_server.core.settings.names import flag, variable
from headmix_server.core.settings.settings import Settings


def _app() -> Typer:
    app = Typer(add_completion=False)
    app.command()(cli.serve)
    return app


def test_every_setting_has_an_option_and_every_option_a_setting() -> None:
    options = {name for parameter in get_command(_app()).params for name in parameter.opts} - {"--help"}
    assert options == {flag(name) for name in Settings.model_fields}


def test_a_worker_has_options_for_its_settings_and_its_own() -> None:
    app = Typer(add_completion=False)
    app.command()(cli.train_worker)
    options = {name for parameter in get_command(app).params for name in parameter.opts} - {"--help"}
    assert options == {*map(flag, cli.WORKER_SETTINGS), "--metrics-port", "--until-idle"}


def test_a_workers_wrong_setting_is_named() -> None:
    app = Typer(add_completion=False)
    app.command()(cli.train_worker)
    result = CliRunner().invoke(app, ["--train-claim-seconds", "0"])
    assert result.exit_code == cli.USAGE
    assert "headmix train-worker: --train-claim-seconds" in result.output


def test_the_help_tells_each_settings_meaning_default_and_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    text = " ".join(CliRunner().invoke(_app(), ["--help"]).output.split())
    for name, field in Settings.model_fields.items():
        assert str(field.description) in text
        assert variable(name) in text


def test_the_help_is_in_groups_and_every_setting_is_in_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted(name for group in GROUPS.values() for name in group) == sorted(Settings.model_fields)
    monkeypatch.setenv("COLUMNS", "120")
    text = CliRunner().invoke(_app(), ["--help"]).output
    places = [text.index(f"─ {group} ─") for group in GROUPS]
    assert places == sorted(places)
    assert "OTHER" not in text
    for group, names in GROUPS.items():
        panel = text[text.index(f"─ {group} ─") :].partition("╰")[0]
        assert all(flag(name) in panel for name in names)


def test_the_help_lists_what_a_value_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    text = " ".join(CliRunner().invoke(_app(), ["--help"]).output.split())
    for shown in ("--device auto|cpu|cuda", "--port N", "--data-dir PATH", "--database URL", "--drain-seconds SECONDS"):
        assert shown in text


def test_flags_come_before_variables_and_variables_before_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADMIX_PORT", "1234")
    monkeypatch.setenv("HEADMIX_HOST", "0.0.0.0")
    settings = cli.read_settings({"port": "4321", "host": None, "base": None})
    assert (settings.port, settings.host, settings.base) == (4321, "0.0.0.0", Settings.model_fields["base"].default)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--port", "99999"], "--port (HEADMIX_PORT) should be less than or equal to 65535, not '99999'"),
        (["--runner", "gpu"], "--runner (HEADMIX_RUNNER) should be 'torch' or 'fake', not 'gpu'"),
        (["--block-size", "x"], "--block-size (HEADMIX_BLOCK_SIZE) should be a valid integer"),
    ],
)
def test_a_value_a_setting_cannot_have_is_one_line_and_status_2(flags: list[str], told: str) -> None:
    result = CliRunner().invoke(_app(), flags)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert told in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_variable_with_a_bad_value_is_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADMIX_DRAIN_SECONDS", "-1")
    result = CliRunner().invoke(_app(), [])
    assert result.exit_code == 2
    assert "HEADMIX_DRAIN_SECONDS" in result.stderr


def test_an_unknown_option_is_status_2() -> None:
    assert CliRunner().invoke(_app(), ["--no-such"]).exit_code == 2


def test_the_status_of_the_program_is_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    from headmix_server.app import server

    seen: list[Settings] = []

    def run(settings: Settings) -> int:
        seen.append(settings)
        return 1

    monkeypatch.setattr(server, "run", run)
    assert CliRunner().invoke(_app(), ["--port", "0"]).exit_code == 1
    assert seen[0].port == 0


@given(st.sampled_from(sorted(Settings.model_fields)), st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
def test_any_text_for_any_setting_is_accepted_or_a_validation_error(name: str, text: str) -> None:
    with suppress(ValidationError):
        assert name in cli.read_settings({name: text}).model_fields_set


def test_the_command_line_loads_neither_torch_nor_the_web_framework() -> None:
    code = "import sys, headmix_server.cli; print([m for m in ('torch','transformers','fastapi') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
