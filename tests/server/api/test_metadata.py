"""An adapter's free-form metadata costs only the client that requests it, not inference requests or lists.

Metadata beyond the limits is no longer accepted; what a database still has from earlier does no harm.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Engine, event, text

from harness.adapters.artifacts import nested, random_artifact, with_description
from harness.server.api_rig import ApiRig
from headmix_adapters.config import decode_config, encode_config
from headmix_server.database.migrate import alembic_config

LISTS = ("/v1/adapters", "/v1/models", "/v1/adapters/fat/versions")


def database(rig: ApiRig) -> Engine:
    return rig.state.library.catalog._engine


@contextmanager
def statements(rig: ApiRig) -> Iterator[list[str]]:
    noted: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        noted.append(statement)

    event.listen(database(rig), "before_cursor_execute", note)
    yield noted
    event.remove(database(rig), "before_cursor_execute", note)


def put_back(rig: ApiRig, training: str) -> None:
    """Write every header's `training` as an earlier headmix version stored it, and migrate again."""
    with database(rig).execution_options(immediate=True).begin() as connection:
        config = alembic_config(connection)
        command.downgrade(config, "0007")
        for (header,) in connection.execute(text("SELECT DISTINCT config FROM versions")).all():
            old = header.replace('"training":{"steps":3}', f'"training":{training}')
            assert old != header
            connection.execute(
                text("UPDATE versions SET config = :old WHERE config = :new"), {"old": old, "new": header}
            )
        command.upgrade(config, "head")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"training": nested(255)}, "training: nested more than 16 deep"),
        ({"training": {"a": "x" * 70000}}, "training: 70008 bytes of JSON, more than the limit of 65536"),
        ({"training": {"a": "\x1b[2J"}}, "holds control characters"),
        ({"training": {"a": "x" * 2**20}}, "more than the limit of 1048576"),
    ],
    ids=["deep", "large", "unprintable", "beyond reading"],
)
async def test_an_upload_with_metadata_out_of_bounds_is_refused_by_name(
    rig: ApiRig, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    random_artifact(tmp_path / "good", rig.state.base.shape)
    content = with_description((tmp_path / "good").read_bytes(), changes)
    response = await rig.client.post("/v1/adapters", data={"name": "fat"}, files={"file": content})
    assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid_adapter")
    assert reason in response.json()["error"]["message"]


async def test_lists_and_requests_read_no_metadata_and_only_the_one_asked_for_shows_it(rig: ApiRig) -> None:
    rig.publish("fat")
    with statements(rig) as noted:
        lists = [(await rig.client.get(path)).json()["data"] for path in LISTS]
        answered = await rig.client.post("/v1/completions", json={"model": "fat", "prompt": "x", "max_tokens": 1})
        assert answered.status_code == 200
        assert noted
        assert not [statement for statement in noted if "descriptions" in statement]
        assert (await rig.client.get("/v1/adapters/fat")).json()["training"] == {"steps": 3}
        assert [statement for statement in noted if "descriptions" in statement]
    assert all("training" not in entry and "examples" not in entry for entries in lists for entry in entries)


@pytest.mark.parametrize(
    "training",
    ['{"a":' + "[" * depth + "]" * depth + "}" for depth in (255, 900)] + ['{"a":"' + "x" * 2**21 + '"}'],
    ids=["255 deep", "900 deep", "2 MiB"],
)
async def test_metadata_from_before_the_bounds_harms_no_request(rig: ApiRig, training: str) -> None:
    rig.publish("fat")
    await rig.client.put("/v1/adapters/fat/sharing", json={"everyone": True})
    put_back(rig, training)
    for client, name in ((rig.client, "fat"), (rig.other, "tenant/fat")):
        for path in LISTS[:2]:
            listed = await client.get(path)
            assert listed.status_code == 200
            assert len(listed.content) < 4096
        answered = await client.post("/v1/completions", json={"model": name, "prompt": "x", "max_tokens": 1})
        assert answered.status_code == 200
    shown = await rig.client.get("/v1/adapters/fat")
    assert (shown.status_code, shown.json()["training"], shown.json()["examples"]) == (200, None, [])


async def test_a_migration_keeps_what_is_within_the_bounds(rig: ApiRig) -> None:
    version = rig.publish("fat", created_by="me")
    put_back(rig, '{"a":[["]]]]{{\\\\",{"b":1.5}]]}')
    found = (await rig.client.get("/v1/adapters/fat")).json()
    assert found["training"] == {"a": [["]]]]{{\\", {"b": 1.5}]]}
    after = rig.state.library.catalog.resolve("tenant", "fat")
    assert after == version
    with database(rig).connect() as connection:
        stored, size = connection.execute(text("SELECT config, config_bytes FROM versions")).one()
        assert connection.execute(text("SELECT created_by FROM descriptions")).scalar_one() == "me"
    assert size == len(stored) == len(encode_config(decode_config(stored)))


async def test_models_come_in_pages_and_the_base_is_on_the_first(rig: ApiRig) -> None:
    for name in ("a", "b", "c"):
        rig.publish(name)
    first = (await rig.client.get("/v1/models", params={"limit": 2})).json()
    assert ([model["root"] for model in first["data"]], first["has_more"]) == (["tiny-base", "a", "b"], True)
    last = (await rig.client.get("/v1/models", params={"limit": 2, "after": "b"})).json()
    assert ([model["root"] for model in last["data"]], last["has_more"]) == (["c"], False)
