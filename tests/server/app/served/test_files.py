"""The whole program with files: OpenAI's client against a real server that is killed while a file arrives."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from openai import OpenAI

from harness.server.running_server import RunningServer, running_server, wait_for
from harness.server.s3_server import s3_server

pytestmark = pytest.mark.slow


@pytest.fixture(params=["folder", "bucket"])
def env(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Where the bytes are."""
    if request.param == "folder":
        yield {}
        return
    with s3_server() as server:
        yield {"HEADMIX_ARTIFACTS": server.new_bucket()}


def sdk(server: RunningServer) -> OpenAI:
    return OpenAI(base_url=f"{server.base_url}/v1", api_key=server.key, max_retries=0)


def test_files_outlive_a_server_that_is_killed_and_what_was_arriving_is_nowhere(
    tmp_path: Path, env: dict[str, str]
) -> None:
    content = bytes(range(256)) * 20_000
    with running_server(tmp_path, env=env) as server:
        with sdk(server) as client:
            kept = client.files.create(file=("kept.jsonl", content), purpose="batch")
            parts = client.uploads.create(bytes=6, filename="a", mime_type="text/plain", purpose="fine-tune")
            first = client.uploads.parts.create(parts.id, data=b"abc")
        incoming = server.data_dir / "files" / "incoming"

        def arriving() -> Iterator[bytes]:
            yield b"--b\r\nContent-Disposition: form-data; name=purpose\r\n\r\nbatch\r\n"
            yield b"--b\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\n" + bytes(1 << 20)
            wait_for(lambda: any(path.stat().st_size for path in incoming.iterdir()), server)
            server.stop(signal.SIGKILL)
            yield b"the end"

        kind = {"content-type": "multipart/form-data; boundary=b", **server.headers}
        with contextlib.suppress(httpx2.TransportError):
            httpx2.post(f"{server.base_url}/v1/files", content=arriving(), headers=kind, timeout=60)
        data = server.data_dir
    with running_server(tmp_path, data_dir=data, env=env) as server, sdk(server) as client:
        assert [file.id for file in client.files.list()] == [kept.id]
        assert client.files.content(kept.id).content == content
        second = client.uploads.parts.create(parts.id, data=b"def")
        done = client.uploads.complete(parts.id, part_ids=[first.id, second.id])
        assert done.file is not None
        assert client.files.content(done.file.id).content == b"abcdef"
        for file in client.files.list():
            client.files.delete(file.id)
        assert client.files.list().data == []
        assert not any(path.is_file() for path in (data / "files" / "sha256").rglob("*"))
        assert server.stop() == 0
