"""For any invalid value of a setting, one sentence names the setting and what it accepts; the exit status is 2."""

import os
import socket
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer import Typer
from typer.testing import CliRunner

from harness.server.running_server import FAKE_BASE, running_server, write_fake_base
from headmix_server import cli
from headmix_server.app import server
from headmix_server.app.errors import SettingError, StartError
from headmix_server.app.http.listen import listen
from headmix_server.app.startup.check_settings import check_settings
from headmix_server.app.storage.data_folder import open_data_folder
from headmix_server.core.settings.names import called, variable
from headmix_server.core.settings.settings import Settings

NOT_INTEGERS = ("x", "", "4.5", "1e3", "0x10", "99999999999999999999", "nan", "-1")
NUMBERS = [name for name, field in Settings.model_fields.items() if field.annotation is int]
SECONDS = [name for name, field in Settings.model_fields.items() if field.annotation is float]
S3 = "s3://bucket/prefix"
POSTGRESQL = "postgresql://user:password@host/name"
REDIS = "redis://host:6379/0"

FAULTS = [
    *((name, value, "") for name in NUMBERS for value in NOT_INTEGERS if (name, value) != ("port", "0")),
    *((name, value, "") for name in SECONDS for value in ("x", "", "nan", "inf", "-inf", "-1", "1e300")),
    ("port", "65536", "less than or equal to 65535"),
    ("threads", "1025", "less than or equal to 1024"),
    ("runner", "gpu", "'torch' or 'fake'"),
    ("device", "tpu", "'auto', 'cpu' or 'cuda'"),
    ("dtype", "float16", "'auto', 'float32' or 'bfloat16'"),
    ("quantize", "int4", "'none', 'int8' or 'fp8'"),
    ("weights", "bfloat16", "'auto', 'stored' or 'float32'"),
    ("prefix_cache", "yes", "'on' or 'off'"),
    ("keys", "", "'on' or 'off'"),
    ("adapter_kernels", "cuda", "'auto', 'native' or 'torch'"),
    ("log_level", "INFO", "'debug', 'info', 'warning' or 'error'"),
    ("log_format", "text", "'auto', 'console' or 'json'"),
    ("metrics_open", "maybe", "a valid boolean"),
    ("base", "", "must not be empty"),
    ("base", "  ", "must not be empty"),
    ("host", "", "must not be empty"),
    ("data_dir", "", "must not be empty"),
    ("data_dir", "~nobody-is-called-so/data", "home folder"),
    ("preload", "", "must not be empty"),
    ("preload", "/no/such/folder", "takes a readable folder"),
    ("preload", __file__, "takes a readable folder"),
    ("database", "", "must not be empty"),
    ("database", "topsecret@host/name", POSTGRESQL),
    ("database", "/var/lib/headmix.db", "sqlite:///"),
    ("database", "mysql://user:topsecret@host/name", POSTGRESQL),
    ("database", "://user:topsecret@host", POSTGRESQL),
    ("database", "postgresql://user:topsecret@host:abc/name", POSTGRESQL),
    ("database", "postgresql://user:topsecret@host:70000/name", "1 to 65535"),
    ("database", "postgresql://user:topsecret@[::1/name", POSTGRESQL),
    ("database", "postgresql://user:topsecret@host/name?foo=1", '"foo"'),
    ("database", "sqlite://", "names no file"),
    ("database", "sqlite:///:memory:", "names no file"),
    ("artifacts", "", "must not be empty"),
    ("artifacts", "bucket/prefix", S3),
    ("artifacts", "s3://", "names no bucket"),
    ("artifacts", "s3:///prefix", "names no bucket"),
    ("artifacts", "s3://[bucket", S3),
    ("artifacts", "s3://bucket:9000/prefix", "?endpoint=https://host:port"),
    ("artifacts", "s3://bucket/prefix#part", "fragment"),
    ("artifacts", "s3://key:topsecret@bucket/prefix", "credentials"),
    ("artifacts", "s3://bucket/a//b", S3),
    ("artifacts", "s3://buck et/b", S3),
    ("artifacts", "http://bucket/prefix", S3),
    ("artifacts", "file:///tmp", S3),
    ("artifacts", "memory:///", S3),
    ("artifacts", "ftp://bucket", S3),
    ("artifacts", "s3://bucket?no_such=topsecret", "'no_such'"),
    ("artifacts", "s3://bucket?region=", "'region' without a value"),
    ("artifacts", "s3://bucket?region=a&region=b", "'region' twice"),
    ("artifacts", "s3://bucket?bucket=other", "'bucket'"),
    ("artifacts", "s3://bucket?endpoint=topsecret", "'endpoint' that does not begin with http"),
    ("artifacts", "s3://bucket?proxy_url=topsecret", "'proxy_url' that does not begin with http"),
    ("artifacts", "s3://bucket?allow_http=topsecret", "'allow_http'"),
    ("artifacts", "s3://bucket?aws_allow_http=topsecret", "'allow_http'"),
    ("artifacts", "s3://bucket?connect_timeout=topsecret", "'connect_timeout'"),
    ("artifacts", "s3://bucket?virtual_hosted_style_request=topsecret", "'virtual_hosted_style_request'"),
    ("artifacts", "s3://bucket?checksum_algorithm=topsecret", "'checksum_algorithm'"),
    ("artifacts", "gs://bucket?allow_http=topsecret", "'allow_http'"),
    ("artifacts", "gs://bucket?service_account=/topsecret.json", "'service_account'"),
    ("artifacts", "az://container/prefix?skip_signature=true", "account_name"),
    ("artifacts", "az://container?account_name=a&use_emulator=topsecret", "'use_emulator'"),
    ("moderation_adapter", "", "must not be empty"),
    ("moderation_adapter", "Harm", "takes `name`"),
    ("moderation_adapter", "a/b/c", "`owner/name@3`"),
    ("moderation_adapter", "harm@0", "takes `name`"),
    ("limits_storage", "", "must not be empty"),
    ("limits_storage", "host:6379", REDIS),
    ("limits_storage", "http://user:topsecret@host", REDIS),
    ("limits_storage", "memcached://host", REDIS),
    ("limits_storage", "redis+foo://topsecret@host", REDIS),
    ("limits_storage", "redis://user:topsecret@host:abc/0", REDIS),
    ("limits_storage", "redis://user:topsecret@host:70000/0", REDIS),
    ("limits_storage", "redis://[host", REDIS),
    ("limits_storage", "redis://host/first", "'first'"),
    ("limits_storage", "redis://host?socket_timeout=topsecret", REDIS),
    ("limits_storage", "redis+sentinel://host:1", REDIS),
]


def told(name: str, value: str) -> str:
    """Return the message about a value, which is found before anything is opened."""
    try:
        check_settings(cli.read_settings({name: value}))
    except ValidationError as error:
        return "; ".join(map(cli.fault, error.errors()))
    except SettingError as error:
        return str(error)
    return ""


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("AZURE_", "AWS_", "GOOGLE_"))]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(("name", "value", "takes"), FAULTS)
def test_a_value_a_setting_cannot_have_is_one_sentence_that_names_it(name: str, value: str, takes: str) -> None:
    sentence = told(name, value)
    assert sentence.startswith(called(name))
    assert takes in sentence
    assert "\n" not in sentence
    assert "topsecret" not in sentence


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("artifacts", "s3://bucket/x?allow_http=true"),
        ("artifacts", "s3://bucket/x?aws_allow_http=false&AWS_REGION=eu-central-1"),
        ("artifacts", "s3://bucket/x?endpoint=http://127.0.0.1:9000&connect_timeout=3s&proxy_url=http://proxy:3128"),
        ("artifacts", "gs://bucket/x?allow_http=true"),
        ("artifacts", "az://container/x?account_name=a&allow_http=true"),
        ("artifacts", "abfss://container@account.dfs.core.windows.net/x"),
        ("database", "postgres://user:password@host/name"),
        ("database", "postgresql://host/name?sslmode=require&application_name=x"),
        ("database", "sqlite:////var/lib/headmix/headmix.db"),
        ("limits_storage", "redis://host"),
        ("limits_storage", "redis://:password@host/2"),
        ("limits_storage", "rediss://host:6380/0"),
        ("limits_storage", "redis+unix:///run/redis.sock"),
        ("limits_storage", "redis+cluster://one:1,two:2"),
        ("limits_storage", "redis+sentinel://host:26379/name"),
        *((name, "none") for name in ("artifacts", "database", "limits_storage", "preload")),
    ],
)
def test_a_value_as_the_documentation_has_it_is_taken(name: str, value: str) -> None:
    assert told(name, value) == ""


def test_every_setting_with_a_wrong_value_is_named_at_once() -> None:
    settings = cli.read_settings({"database": "x", "artifacts": "y", "limits_storage": "z", "preload": "/no/such"})
    with pytest.raises(SettingError) as caught:
        check_settings(settings)
    for name in ("database", "artifacts", "limits_storage", "preload"):
        assert called(name) in str(caught.value)


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(variable(name), "")
    assert cli.read_settings({}) == Settings.model_construct()


def test_a_home_folder_is_found_in_variables_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HEADMIX_DATA_DIR", "~/data")
    monkeypatch.setenv("HEADMIX_PRELOAD", "~/adapters")
    settings = cli.read_settings({})
    assert (settings.data_dir, settings.preload) == (tmp_path / "data", tmp_path / "adapters")


@pytest.mark.parametrize("host", ["no such host", "..", "a" * 300, "256.1.1.1", "203.0.113.77", "[::1]", "::g"])
def test_a_host_that_is_not_this_machine_is_reported(host: str) -> None:
    with pytest.raises(SettingError, match=r"--host \(HEADMIX_HOST\) takes an address"):
        listen(host, 0)


def test_a_port_in_use_is_no_fault_of_the_value() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(StartError, match="in use") as caught:
        listen("127.0.0.1", other.getsockname()[1])
    assert not isinstance(caught.value, SettingError)


def test_an_invalid_data_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/data"), tmp_path / ("x" * 300)):
        with (
            pytest.raises(SettingError, match=r"--data-dir \(HEADMIX_DATA_DIR\) takes a writable folder"),
            open_data_folder(place),
        ):
            pass


def test_the_command_reports_it_in_one_line_with_status_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "configure_logging", lambda *_: None)
    app = Typer(add_completion=False)
    app.command()(cli.serve)
    result = CliRunner().invoke(app, ["--artifacts", "s3://bucket/x?allow_http=perhaps"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(
        "headmix serve: --artifacts (HEADMIX_ARTIFACTS) has an invalid value for the option 'allow_http'"
    )
    assert result.stderr.count("\n") == 1


def _last_line(folder: Path, **settings: str | Path) -> tuple[int, str]:
    with running_server(folder, ready=False, **settings) as running:  # type: ignore[arg-type]
        status = running.wait()
        assert not any("Traceback" in line or "topsecret" in line for line in running.stderr)
        return status, running.stderr[-1]


def test_what_only_the_start_finds_out_is_reported_the_same_way(tmp_path: Path) -> None:
    base = write_fake_base(tmp_path / FAKE_BASE)
    (tmp_path / "file").write_text("no database, but long enough to be taken for one" * 40)
    wrong = "postgresql://user:topsecret@127.0.0.1:1/name?sslmode=wrong"
    cases: list[tuple[dict[str, str | Path], str]] = [
        ({"base": tmp_path / "nothing"}, "--base (HEADMIX_BASE) cannot be used: no base"),
        ({"base": Path("/" + "x" * 300)}, "--base (HEADMIX_BASE) cannot be used: no base"),
        ({"base": tmp_path / "file"}, "--base (HEADMIX_BASE) cannot be used"),
        ({"base": base, "data_dir": tmp_path / "file"}, "--data-dir (HEADMIX_DATA_DIR) takes a writable folder"),
        ({"base": base, "database": f"sqlite:///{tmp_path}/file"}, "--database (HEADMIX_DATABASE) cannot be used"),
        ({"base": base, "database": wrong}, 'sslmode value: "wrong"'),
        ({"base": base, "runner": "torch", "device": "cuda"}, "cannot start with these settings: --device cuda"),
    ]
    for settings, sentence in cases:
        status, line = _last_line(tmp_path, **{"data_dir": tmp_path / "data", **settings})
        assert status == 2, line
        assert line.startswith("headmix serve: "), line
        assert sentence in line


def test_a_database_that_does_not_answer_is_no_fault_of_the_value(tmp_path: Path) -> None:
    status, line = _last_line(tmp_path, database="postgresql://user:topsecret@127.0.0.1:1/name")
    assert status == 1
    assert "--database (HEADMIX_DATABASE): postgresql://user:***@127.0.0.1:1/name cannot be opened" in line
