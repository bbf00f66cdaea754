from tests.support.api_rig import BASE, ApiRig


async def test_the_base_comes_first_and_then_the_tenants_adapters(rig: ApiRig) -> None:
    tone = rig.publish("tone", labels=("a", "b"))
    rig.publish("style")
    rig.publish("secret", tenant="other")
    models = (await rig.client.get("/v1/models")).json()
    assert models["object"] == "list"
    base, style, found = models["data"]
    assert (base["id"], base["object"], base["parent"], base["root"]) == (BASE, "model", None, BASE)
    assert (base["max_model_len"], base["created"]) == (256, 1700000000)
    assert style["id"] == "style"
    assert found == {
        "id": "tone",
        "object": "model",
        "created": tone.created,
        "owned_by": "tenant",
        "root": "tone",
        "parent": BASE,
        "task": "classification",
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
