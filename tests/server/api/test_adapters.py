import asyncio
from pathlib import Path
from typing import Any

import pytest

from harness.adapters.artifacts import classifier_config, random_artifact
from harness.adapters.malformed import malformed_artifacts
from harness.adapters.records import digest_of
from harness.bases.base_folder import IM_END
from harness.server.api_rig import TENANT, ApiRig, api_rig
from headmix_adapters.config import ExamplePrompt
from headmix_server.core.errors import InsufficientStorage
from headmix_server.core.messages import ForgetAdapter, LoadAdapter
from headmix_server.core.types import Residency

URL = "/v1/adapters"


def artifact(rig: ApiRig, folder: Path, seed: int = 0, **changes: Any) -> bytes:
    path = folder / f"{seed}.safetensors"
    random_artifact(path, rig.state.base.shape, seed=seed, **changes)
    return path.read_bytes()


async def upload(rig: ApiRig, content: bytes, name: str = "tone", **fields: str) -> Any:
    return await rig.client.post(URL, data={"name": name, **fields}, files={"file": ("a.safetensors", content)})


async def test_an_upload_becomes_the_current_version_at_once(rig: ApiRig, tmp_path: Path) -> None:
    content = artifact(rig, tmp_path, classifier=classifier_config("a", "b"))
    response = await upload(rig, content)
    assert response.status_code == 201, response.text
    adapter = response.json()
    assert {name: adapter[name] for name in ("object", "name", "version", "digest", "task", "method", "base")} == {
        "object": "adapter",
        "name": "tone",
        "version": 1,
        "digest": digest_of(content),
        "task": "classification",
        "method": "kernel-mix",
        "base": "tiny-base",
    }
    assert (adapter["labels"], adapter["current"], adapter["resident"]) == (["a", "b"], True, "disk")
    assert adapter["size_bytes"] == len(content)
    assert adapter["sites"]["q"]["head"]["rank"] == 2
    assert (await rig.client.get(f"{URL}/tone")).json() == adapter | {
        "chat_template": None,
        "examples": [],
        "training": {},
    }
    assert (await rig.client.get(URL)).json() == {"object": "list", "data": [adapter], "has_more": False}


async def test_examples_are_shown_of_the_one_adapter_that_is_asked_for(rig: ApiRig, tmp_path: Path) -> None:
    examples = (ExamplePrompt(prompt="WIN!", expect="a"), ExamplePrompt(prompt="See you at lunch?"))
    head = classifier_config("a", "b")
    assert (await upload(rig, artifact(rig, tmp_path, classifier=head, examples=examples))).status_code == 201
    for name in ("tone", "tone@1"):
        assert (await rig.client.get(f"{URL}/{name}")).json()["examples"] == [
            {"prompt": "WIN!", "expect": "a", "chat": False, "tools": []},
            {"prompt": "See you at lunch?", "expect": "", "chat": False, "tools": []},
        ]
    for path in (URL, f"{URL}/tone/versions", "/v1/models"):
        assert "WIN!" not in (await rig.client.get(path)).text


async def test_the_same_bytes_again_change_nothing_and_new_bytes_are_a_new_version(rig: ApiRig, tmp_path: Path) -> None:
    first, second = artifact(rig, tmp_path), artifact(rig, tmp_path, 1)
    assert (await upload(rig, first)).status_code == 201
    again = await upload(rig, first)
    assert (again.status_code, again.json()["version"]) == (200, 1)
    newer = await upload(rig, second)
    assert (newer.status_code, newer.json()["version"]) == (201, 2)
    versions = (await rig.client.get(f"{URL}/tone/versions")).json()["data"]
    assert [(entry["version"], entry["current"]) for entry in versions] == [(2, True), (1, False)]


async def test_the_file_comes_back_byte_for_byte(rig: ApiRig, tmp_path: Path) -> None:
    first, second = artifact(rig, tmp_path), artifact(rig, tmp_path, 1)
    await upload(rig, first)
    await upload(rig, second)
    for path, content, version in (("tone", second, 2), ("tone@1", first, 1), ("tone/file?version=1", first, 1)):
        url = f"{URL}/{path}" if "file" in path else f"{URL}/{path}/file"
        response = await rig.client.get(url)
        assert response.content == content
        assert response.headers["x-headmix-adapter"] == f"tone@{version} {digest_of(content)}"


async def test_a_missing_file_of_an_existing_version_is_reported_as_damage(rig: ApiRig) -> None:
    version = rig.publish("tone")
    rig.state.library.store.delete(version.digest)
    response = await rig.client.get(f"{URL}/tone/file")
    assert (response.status_code, response.json()["error"]["code"]) == (500, "artifact_damaged")
    assert "upload them again" in response.json()["error"]["message"]


async def test_every_malformed_artifact_is_refused_with_its_faults_and_leaves_nothing(rig: ApiRig) -> None:
    for kind, content in malformed_artifacts(rig.state.base.shape).items():
        response = await upload(rig, content)
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["param"]) == (422, "invalid_adapter", "file"), kind
        assert error["faults"], kind
        assert all(fault in error["message"] for fault in error["faults"][:1])
    assert (await rig.client.get(URL)).json()["data"] == []
    assert [path for path in (rig.state.settings.data_dir / "artifacts").rglob("*") if path.is_file()] == []


async def test_added_tokens_are_listed_and_words_the_base_has_already_are_refused(rig: ApiRig, tmp_path: Path) -> None:
    response = await upload(rig, artifact(rig, tmp_path, added_tokens=("<x>", "<y>")))
    assert (response.status_code, response.json()["added_tokens"]) == (201, ["<x>", "<y>"])
    response = await upload(rig, artifact(rig, tmp_path, added_tokens=("<x>", IM_END, "a")))
    assert response.status_code == 422
    assert response.json()["error"]["faults"] == [
        f"added_tokens[1]: '{IM_END}' is a token of the base",
        "added_tokens[2]: 'a' is a token of the base",
    ]


async def test_another_fingerprint_is_accepted_only_where_the_upload_says_so(rig: ApiRig, tmp_path: Path) -> None:
    shape = rig.state.base.shape
    path = tmp_path / "other.safetensors"
    other = shape.__class__(**{**{f: getattr(shape, f) for f in shape.__struct_fields__}, "fingerprint": "sha256:11"})
    random_artifact(path, other)
    assert (await upload(rig, path.read_bytes())).status_code == 422
    assert (await upload(rig, path.read_bytes(), allow_base_mismatch="true")).status_code == 201


@pytest.mark.parametrize(
    ("name", "fields", "param"),
    [
        ("No Spaces", {}, "name"),
        ("tiny-base", {}, "name"),
        ("", {}, "name"),
        ("tone", {"allow_base_mismatch": "perhaps"}, "allow_base_mismatch"),
        ("tone", {"path": "/etc/passwd"}, "path"),
    ],
)
async def test_a_malformed_form_names_its_field(rig: ApiRig, name: str, fields: dict[str, str], param: str) -> None:
    response = await upload(rig, b"x", name, **fields)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data; name=file\r\n\r\nabc"),
        ("multipart/form-data; boundary=b", b"nonsense"),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Disposition: form-data; name=name\r\n\r\ntone\r\n--b--\r\n",
        ),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"x" * 10_000),
    ],
)
async def test_a_malformed_upload_is_a_bad_request(rig: ApiRig, content_type: str, content: bytes) -> None:
    response = await rig.client.post(URL, content=content, headers={"content-type": content_type})
    assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_a_file_above_the_limit_is_refused_before_it_is_kept(base_folder: Path, tmp_path: Path) -> None:
    async with api_rig(base_folder, tmp_path, settings={"max_adapter_mib": 1}) as rig:

        async def undeclared() -> Any:
            yield b"--b\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\n"
            for _ in range(20):
                yield bytes(100_000)

        kind = {"content-type": "multipart/form-data; boundary=b"}
        for content in (bytes(3 << 20), undeclared()):
            response = await rig.client.post(URL, content=content, headers=kind)
            assert (response.status_code, response.json()["error"]["code"]) == (413, "payload_too_large")
        assert list((tmp_path / "artifacts" / "incoming").iterdir()) == []


async def test_a_full_disk_is_reported_and_nothing_is_half_written(
    rig: ApiRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise InsufficientStorage("The disk is full; nothing was stored.")

    monkeypatch.setattr("headmix_server.catalog.bytes.upload.Upload.write", full)
    response = await upload(rig, artifact(rig, tmp_path))
    assert (response.status_code, response.json()["error"]["code"]) == (507, "insufficient_storage")
    assert (await rig.client.get(URL)).json()["data"] == []


async def test_deleting_removes_every_version_and_informs_the_engine(rig: ApiRig) -> None:
    first, second = rig.publish("tone", b"1"), rig.publish("tone", b"2")
    response = await rig.client.delete(f"{URL}/tone")
    assert response.json() == {"object": "adapter.deleted", "name": "tone", "deleted": True, "versions": [2, 1]}
    forgotten = await rig.engine.expect(ForgetAdapter, 2)
    assert {message.digest for message in forgotten} == {first.digest, second.digest}
    assert not rig.state.library.path(first).exists()
    assert (await rig.client.get(f"{URL}/tone")).status_code == 404


async def test_bytes_that_another_tenant_shares_are_neither_forgotten_nor_removed(rig: ApiRig) -> None:
    mine = rig.publish("tone", b"same")
    rig.publish("theirs", b"same", tenant="other")
    await rig.client.delete(f"{URL}/tone")
    assert (await rig.other.get(f"{URL}/theirs/file")).content == b"same"
    assert rig.engine.of(ForgetAdapter) == []
    assert rig.state.library.path(mine).exists()


@pytest.mark.parametrize(("body", "version"), [(None, 2), ({}, 2), ({"version": None}, 2), ({"version": 1}, 1)])
async def test_rolling_back_makes_another_version_current(
    rig: ApiRig, body: dict[str, int | None] | None, version: int
) -> None:
    for content in (b"1", b"2", b"3"):
        rig.publish("tone", content)
    response = await rig.client.post(f"{URL}/tone/rollback", json=body)
    assert (response.json()["version"], response.json()["current"]) == (version, True)
    assert (await rig.client.get(f"{URL}/tone")).json()["version"] == version


async def test_loading_waits_until_the_engine_has_the_adapter(rig: ApiRig) -> None:
    first, second = rig.publish("tone", b"1"), rig.publish("tone", b"2")
    for body, version in ((None, second), ({"version": 1}, first)):
        response = await rig.client.post(f"{URL}/tone/load", json=body)
        assert (response.json()["digest"], response.json()["resident"]) == (version.digest, "device")
        assert rig.engine.of(LoadAdapter)[-1].adapter == rig.state.library.ref(version)


async def test_residency_is_what_the_engine_last_reported(rig: ApiRig) -> None:
    version = rig.publish("tone")
    assert (await rig.client.get(f"{URL}/tone")).json()["resident"] == "disk"
    rig.state.engine.resident = {("tenant", version.digest): Residency.HOST}
    assert (await rig.client.get(f"{URL}/tone")).json()["resident"] == "host"
    assert (await rig.client.get("/v1/models/tone")).json()["resident"] == "host"


async def test_an_upload_over_the_tenants_quota_is_refused_and_leaves_nothing(rig: ApiRig, tmp_path: Path) -> None:
    first, second = artifact(rig, tmp_path), artifact(rig, tmp_path, 1)
    quotas: list[tuple[dict[str, int], str]] = [
        ({"stored_bytes": len(first)}, "file"),
        ({"stored_bytes": 0, "adapters": 1}, "name"),
    ]
    assert (await upload(rig, first)).status_code == 201
    for limits, param in quotas:
        rig.state.limits.change(TENANT, limits, actor="test")
        refused = await upload(rig, second, "mood")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert (refused.json()["error"]["param"], refused.headers.get("retry-after")) == (param, None)
        assert refused.headers["x-should-retry"] == "false"
        await asyncio.to_thread(rig.state.library.drain)
        assert [path.stem for path in (tmp_path / "artifacts").rglob("*") if path.is_file()] == [
            digest_of(first).removeprefix("sha256:")
        ]
        assert (await upload(rig, first)).status_code == 200
    text = (await rig.client.get("/metrics")).text
    for limit in ("adapters", "stored_bytes"):
        assert f'headmix_rate_limited_total{{limit="{limit}",tenant="{TENANT}"}} 1.0' in text


async def test_an_upload_far_over_the_quota_is_refused_before_its_bytes_are_read(rig: ApiRig) -> None:
    rig.state.limits.change(TENANT, {"stored_bytes": 1000}, actor="test")
    rig.publish("tone", b"x" * 990)
    refused = await rig.client.post(URL, content=b"not even a form".ljust(200_000))
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
