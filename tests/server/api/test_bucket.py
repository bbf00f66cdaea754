"""The API with artifacts in a real S3: the engine finds the file, or the request gets the reason why not."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from harness.adapters.artifacts import random_artifact
from harness.server.api_rig import OTHER_TENANT, ApiRig, MakeStore, api_rig
from harness.server.s3_server import S3Server, s3_server
from headmix_server.catalog.bytes.bucket import open_bucket
from headmix_server.catalog.bytes.bucket_store import BucketStore
from headmix_server.catalog.bytes.holds import Holds
from headmix_server.core.messages import Classify, Embed, Generate, LoadAdapter
from tests.support.clocks.waiting import until

CACHE_BYTES = 10


def in_bucket(url: str) -> MakeStore:
    def make(data: Path, holds: Holds) -> BucketStore:
        store = BucketStore(
            open_bucket(url), data / "cache", owner="us", cache_bytes=CACHE_BYTES, is_held=holds.is_held
        )
        store.collect(())
        return store

    return make


@pytest.fixture
async def rig(base_folder: Path, tmp_path: Path, s3: S3Server) -> AsyncIterator[ApiRig]:
    async with api_rig(base_folder, tmp_path, make_store=in_bucket(s3.new_bucket())) as running:
        running.engine.probs, running.engine.vector = [0.5, 0.5], [1.0]
        yield running


def publish_cold(rig: ApiRig, *, labels: tuple[str, ...] = ()) -> str:
    """Publish an adapter whose file is no longer on this machine; the cache only keeps the latest one."""
    version = rig.publish("cold", b"cold bytes", labels=labels)
    rig.publish("warm", b"warm bytes", labels=labels)
    assert not rig.state.library.store.is_local(version.digest)
    return version.digest


@pytest.mark.parametrize(
    ("route", "body", "kind", "labels"),
    [
        ("/v1/completions", {"prompt": "Once"}, Generate, ()),
        ("/v1/completions", {"prompt": "Once", "stream": True, "n": 2}, Generate, ()),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}, Generate, ()),
        ("/v1/classify", {"input": ["a", "b"]}, Classify, ("a", "b")),
        ("/v1/embeddings", {"input": "a"}, Embed, ()),
        ("/v1/adapters/cold/load", None, LoadAdapter, ()),
    ],
)
async def test_the_file_is_there_when_the_engine_is_asked_to_read_it(
    rig: ApiRig,
    route: str,
    body: dict[str, object] | None,
    kind: type[Generate | Classify | Embed | LoadAdapter],
    labels: tuple[str, ...],
) -> None:
    publish_cold(rig, labels=labels)
    read: list[bytes] = []
    answer = rig.engine.answer

    def read_first(message: object) -> object:
        if isinstance(message, kind) and message.adapter is not None:
            read.append((rig.state.settings.data_dir / message.adapter.path).read_bytes())
        return answer(message)  # type: ignore[arg-type] # passed on unchanged

    rig.engine.answer = read_first  # type: ignore[assignment]
    response = await rig.client.post(route, json=None if body is None else {"model": "cold", **body})
    assert response.status_code == 200, response.text
    assert set(read) == {b"cold bytes"}


async def test_two_requests_for_one_cold_adapter_download_it_once_and_others_do_not_wait(
    rig: ApiRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    cold = publish_cold(rig)
    downloads: list[str] = []
    arrived, go_on = asyncio.Event(), asyncio.Event()
    download = rig.state.library.store.download

    async def slow(digest: str) -> None:
        downloads.append(digest)
        arrived.set()
        await go_on.wait()
        await download(digest)

    monkeypatch.setattr(rig.state.library.store, "download", slow)
    body = {"prompt": "Once", "max_tokens": 1}
    waiting = [
        asyncio.create_task(rig.client.post("/v1/completions", json={"model": "cold", **body})) for _ in range(2)
    ]
    leaving = asyncio.create_task(rig.client.post("/v1/completions", json={"model": "cold", **body}))
    await arrived.wait()
    warm = await rig.client.post("/v1/completions", json={"model": "warm", **body})
    assert warm.status_code == 200
    leaving.cancel()
    go_on.set()
    assert [(await task).status_code for task in waiting] == [200, 200]
    assert downloads == [cold]


async def test_a_download_ends_with_the_client_that_asked_and_another_tenants_takes_its_place(
    base_folder: Path, tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = in_bucket(s3.new_bucket())
    async with api_rig(base_folder, tmp_path, make_store=store, settings={"max_downloads": 1}) as rig:
        cold = publish_cold(rig)
        rig.publish("theirs", b"their bytes", tenant=OTHER_TENANT)
        rig.publish("warm", b"warm again")
        download, dropped = rig.state.library.store.download, asyncio.Event()

        async def stalled(digest: str) -> None:
            if digest == cold:
                try:
                    await asyncio.Event().wait()
                finally:
                    dropped.set()
            await download(digest)

        monkeypatch.setattr(rig.state.library.store, "download", stalled)
        body = {"prompt": "Once", "max_tokens": 1}
        leaving = asyncio.create_task(rig.client.post("/v1/completions", json={"model": "cold", **body}))
        await until(lambda: rig.state.fetcher.under_way == 1)
        other = asyncio.create_task(rig.other.post("/v1/completions", json={"model": "theirs", **body}))
        await until(lambda: rig.state.fetcher.waiting == 1)
        leaving.cancel()
        await dropped.wait()
        assert (await other).status_code == 200


async def test_missing_bytes_are_an_error_and_never_answered_by_the_base(rig: ApiRig, s3: S3Server) -> None:
    digest = publish_cold(rig)
    store = rig.state.library.store
    assert isinstance(store, BucketStore)
    store._bucket.delete(digest)
    for path, body in (("/v1/completions", {"model": "cold", "prompt": "x"}), ("/v1/adapters/cold/load", None)):
        response = await rig.client.post(path, json=body)
        assert (response.status_code, response.json()["error"]["code"]) == (500, "artifact_damaged")
        assert digest in response.json()["error"]["message"]
    assert (await rig.client.get("/v1/adapters/cold/file")).status_code == 500
    assert rig.engine.of(Generate) == []


@pytest.fixture
def mortal() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


async def test_in_an_outage_local_adapters_are_served_and_others_get_a_retry_time(
    base_folder: Path, tmp_path: Path, mortal: S3Server
) -> None:
    async with api_rig(base_folder, tmp_path, make_store=in_bucket(mortal.new_bucket())) as rig:
        publish_cold(rig)
        path = tmp_path / "new.safetensors"
        random_artifact(path, rig.state.base.shape)
        mortal.kill()
        warm = await rig.client.post("/v1/completions", json={"model": "warm", "prompt": "x"})
        assert (warm.status_code, warm.headers["x-headmix-adapter"].split()[0]) == (200, "warm@1")
        answers = [
            await rig.client.post("/v1/completions", json={"model": "cold", "prompt": "x"}),
            await rig.client.get("/v1/adapters/cold/file"),
            await rig.client.post("/v1/adapters", data={"name": "new"}, files={"file": path.read_bytes()}),
        ]
        for answer in answers:
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable")
            assert answer.headers["retry-after"] == "5"
            assert "cannot be reached" in answer.json()["error"]["message"]
        names = [adapter["name"] for adapter in (await rig.client.get("/v1/adapters")).json()["data"]]
        assert names == ["cold", "warm"]
        assert (await rig.client.delete("/v1/adapters/cold")).status_code == 200
        assert (await rig.client.get("/v1/adapters/cold")).status_code == 404
        assert list((tmp_path / "cache" / "incoming").iterdir()) == []
