"""Attacks with a key for adapters: files that are costly to verify, store, list or compute with."""

import json
from functools import cache

from harness.hostile.attacks.attack import Attack, AttackClient, request_head, with_field

MIB = 1 << 20
KEPT = frozenset({200, 201})
REFUSED = frozenset({400, 409, 413, 422, 507})
EITHER = KEPT | REFUSED
DEEP = 240
UPLOAD_BYTES = 24 * MIB


async def upload_garbage(client: AttackClient) -> None:
    """Upload files that are not adapters, under its own and other tenants' names."""
    name = client.rng.choice([*client.resources.victims, "garbage", "../../etc/passwd", ""])
    await client.upload(name, client.garbage(), frozenset({400, 413, 422}))


async def slow_pattern(client: AttackClient) -> None:
    """Upload a LoRA whose ranks are given by a pattern on which backtracking never finishes."""
    config = {**json.loads(client.read("lora.json")), "rank_pattern": {"([a-z_0-9.]+)+!": 8}}
    await client.upload("pattern", client.read("lora.safetensors"), EITHER, config=json.dumps(config))


@cache
def _fat(plain: bytes) -> bytes:
    return with_field(plain, "training", '{"a":[' + ",".join(["[]"] * 1_300_000) + "]}")


async def fat_training(client: AttackClient) -> None:
    """Upload an adapter with 3.9 MiB of training metadata, and query it."""
    await _upload_and_use(client, "fat", _fat(client.read("plain.safetensors")))


async def nested_training(client: AttackClient) -> None:
    """Upload an adapter with deeply nested training metadata, share it, and list it."""
    text = '{"a":' + "[" * DEEP + "]" * DEEP + "}"
    await _upload_and_use(client, "deep", with_field(client.read("plain.safetensors"), "training", text))


async def _upload_and_use(client: AttackClient, name: str, file: bytes) -> None:
    answer = await client.upload(name, file, EITHER)
    if answer.status_code not in KEPT:
        return
    answered = frozenset({200, 404})  # another attempt may have just deleted it
    await client.ask("PUT", f"/v1/adapters/{name}/sharing", answered, json={"everyone": True})
    await client.ask("POST", "/v1/completions", answered, json={"model": name, "prompt": "a", "max_tokens": 1})
    await client.ask("GET", "/v1/adapters", answered)


async def most_metadata(client: AttackClient) -> None:
    """Upload adapters with the most metadata allowed, share them with everyone, and list them."""
    number = client.rng.randrange(12)
    notes = json.dumps({f"note-{place}": "é" * 400 for place in range(30)})
    await _upload_and_use(client, f"notes-{number}", with_field(client.read("plain.safetensors"), "training", notes))


async def many_adapters(client: AttackClient) -> None:
    """Upload one adapter after another and query each, so that they fill memory."""
    number = client.rng.randrange(10**9)
    file = with_field(client.read("plain.safetensors"), "created_by", f'"copy {number}"')
    answer = await client.upload(f"copy-{number}", file, EITHER)
    if answer.status_code in KEPT:
        body = {"model": f"copy-{number}", "prompt": "a", "max_tokens": 1}
        await client.ask("POST", "/v1/completions", frozenset({200}), json=body)


async def endless_upload(client: AttackClient) -> None:
    """Send 24 MiB of an upload and never finish it."""
    head = request_head(
        *("POST", "/v1/adapters", client.resources.key),
        Content_Type="multipart/form-data; boundary=b",
        Content_Length=1 << 30,
    )
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    await client.send(REFUSED | {408}, head, part, b"\0" * UPLOAD_BYTES, wait_seconds=20)


async def added_words(client: AttackClient) -> None:
    """Upload adapters that each add different words to the vocabulary, and query them in turn."""
    number = client.rng.randrange(40)
    words = json.dumps([f"<word-{number}-{place}>" for place in range(200)])
    await _upload_and_use(
        client, f"words-{number}", with_field(client.read("words.safetensors"), "added_tokens", words)
    )


async def overflow(client: AttackClient) -> None:
    """Query an adapter whose numbers overflow in float32: it must get an error of its own and not affect others."""
    await client.upload("overflow", client.read("overflow.safetensors"), EITHER)
    body = {"model": "overflow", "prompt": client.resources.prompt, "max_tokens": 16, "ignore_eos": True}
    answer = await client.ask("POST", "/v1/completions", frozenset({200, 404, 500}), json=body)
    if answer.status_code == 500 and answer.json()["error"]["code"] != "numerical_error":
        client.fault(f"an adapter that overflows was answered {answer.text[:200]}")


async def odd_forms(client: AttackClient) -> None:
    """Send forms that once caused internal server errors: a long boundary, control characters, no parts."""
    boundary = client.rng.choice(["b" * 300, "b", ""])
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    body = client.rng.choice([b"", b"--b--\r\n", b"--b\r\n\r\n\r\n--b--\r\n", b"\x00" * 1000])
    await client.ask("POST", "/v1/adapters", REFUSED, content=body, headers=headers)
    await client.upload("a\x1b[2Jb", b"x", REFUSED)


ATTACKS = (
    Attack("upload_garbage", 0, "files that are no adapters", upload_garbage),
    Attack("slow_pattern", 8, "a LoRA with a pattern that backtracks without end", slow_pattern),
    Attack("fat_training", 9, "adapters with 3.9 MiB of notes", fat_training),
    Attack("nested_training", 9, "adapters with notes nested 240 deep, shared with everyone", nested_training),
    Attack("most_metadata", 9, "as many notes as are allowed, shared with everyone", most_metadata),
    Attack("many_adapters", 10, "one adapter after the other, each asked, 4 at a time", many_adapters, clients=4),
    Attack("overflow", 0, "an adapter whose numbers overflow", overflow),
    Attack("endless_uploads", 12, "20 uploads of 24 MiB that never end", endless_upload, clients=20, waits=True),
    Attack("added_words", 13, "adapters with 200 added words each", added_words),
    Attack("odd_forms", 14, "forms that once were an error of the server's own", odd_forms),
)
