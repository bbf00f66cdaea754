from pathlib import Path

from harness.server.api_rig import BASE, ApiRig, api_rig


async def test_the_base_comes_first_and_then_the_tenants_adapters(rig: ApiRig) -> None:
    tone = rig.publish("tone", labels=("a", "b"))
    rig.publish("style")
    rig.publish("secret", tenant="other")
    models = (await rig.client.get("/v1/models")).json()
    assert models["object"] == "list"
    base, style, found = models["data"]
    assert (base["id"], base["object"], base["parent"], base["root"]) == (BASE, "model", None, BASE)
    assert (base["max_model_len"], base["created"]) == (256, 1700000000)
    assert base["capabilities"] == ["generation", "embedding"]
    assert (style["id"], style["capabilities"]) == ("style", ["generation", "embedding"])
    assert found == {
        "id": "tone",
        "object": "model",
        "created": tone.created,
        "owned_by": "tenant",
        "root": "tone",
        "parent": BASE,
        "task": "classification",
        "capabilities": ["classification", "embedding"],
        "labels": ["a", "b"],
        "version": 1,
        "digest": tone.digest,
        "resident": "disk",
        "max_model_len": None,
    }


async def test_one_model_is_found_by_every_name_it_can_be_asked_by(rig: ApiRig) -> None:
    rig.publish("tone", b"1")
    rig.publish("tone", b"2")
    assert (await rig.client.get(f"/v1/models/{BASE}")).json()["parent"] is None
    for name, version in (("tone", 2), ("tone@1", 1), ("tone@2", 2)):
        model = (await rig.client.get(f"/v1/models/{name}")).json()
        assert (model["id"], model["version"]) == (name, version)


async def test_an_encoder_base_and_its_adapters_say_they_do_not_generate(base_folder: Path, tmp_path: Path) -> None:
    async with api_rig(base_folder, tmp_path, shape={"model_type": "bert"}) as rig:
        rig.publish("odd")
        rig.publish("tone", labels=("a", "b"))
        models = (await rig.client.get("/v1/models")).json()["data"]
    assert [(model["task"], model["capabilities"]) for model in models] == [
        (None, ["embedding"]),
        ("generation", ["embedding"]),
        ("classification", ["classification", "embedding"]),
    ]
