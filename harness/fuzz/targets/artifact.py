"""Target `artifact`: an adapter's file. An input is the file.

A refusal names the faults; an accepted file can be read by every later reader, contains only finite numbers, and can be
published, listed, queried and deleted.
"""

import hashlib
import json
import struct
import tempfile
from functools import cache
from pathlib import Path

import torch
from hypothesis import strategies as st
from safetensors.torch import load

from harness.adapters.artifacts import (
    classifier_config,
    container,
    random_artifact,
    tiny_base_shape,
)
from harness.adapters.malformed import malformed_artifacts
from harness.fuzz.live_api import live_api
from harness.fuzz.targets.json_texts import Json, odd_values
from harness.fuzz.targets.target import Target, kind_of
from headmix_adapters.artifact import Artifact, ArtifactError, open_artifact, verify_artifact
from headmix_server.core.types import AdapterRef
from headmix_server.device.adapters.adapter_files import load_adapter

BASE = tiny_base_shape()
LONGEST_REFUSAL = 200_000


def check(data: bytes) -> str:
    """Verify the file, and use it if it is valid."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        path.write_bytes(data)
        try:
            verified = verify_artifact(path, base=BASE)
        except ArtifactError as error:
            faults = [str(fault) for fault in error.faults]
            assert faults, "refused without a reason"
            assert sum(map(len, faults)) < LONGEST_REFUSAL, "a refusal that nobody reads"
            return f"refused: {kind_of(faults[0])}"
        _require_sound(data, path, verified)
    return f"accepted {_publish(data)} {verified.config.task} {verified.layers}"


def _require_sound(data: bytes, path: Path, verified: Artifact) -> None:
    tensors = load(data)
    assert tensors.keys() == verified.tensors.keys()
    assert all(torch.isfinite(tensor.float()).all() for tensor in tensors.values()), (
        "it holds numbers that are not finite"
    )
    assert open_artifact(path).config == verified.config
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    ref = AdapterRef(digest=digest, base=BASE.fingerprint, path=str(path), name="a", version=1, tenant="t")
    assert load_adapter(ref, BASE).config == verified.config


def _publish(data: bytes) -> int:
    """Upload to a server on another base, which allows the mismatch, and read every view of it."""
    api = live_api()
    key = {"Authorization": f"Bearer {api.key}"}
    body = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % part
        for part in (
            (b"name", b"", b"fuzzed"),
            (b"allow_base_mismatch", b"", b"true"),
            (b"file", b'; filename="a"', data),
        )
    )
    answer = api.send(
        "POST", "/v1/adapters", body + b"--b--\r\n", key | {"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert answer.status in {201, 400, 422}, answer
    if answer.status == 201:
        for view in (
            "/v1/adapters",
            "/v1/adapters/fuzzed",
            "/v1/adapters/fuzzed/versions",
            "/v1/models",
            "/v1/models/fuzzed",
        ):
            got = api.send("GET", view, None, key)
            assert got.status == 200, (view, got)
            json.loads(got.body)
        assert api.send("DELETE", "/v1/adapters/fuzzed", None, key).status < 300
    return answer.status


@cache
def _sound() -> tuple[bytes, ...]:
    """Return valid artifacts: a generator's in two precisions, a classifier's."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        files = []
        for number, dtype in enumerate([torch.bfloat16, torch.float32, torch.float16]):
            random_artifact(path, BASE, seed=number, dtype=dtype, layers=[number % 2])
            files.append(path.read_bytes())
        random_artifact(path, BASE, classifier=classifier_config("a", "b"), layers=[0])
        files.append(path.read_bytes())
    return tuple(files)


CONFIG_WORDS = (
    *(
        "kernel-mix",
        "lora",
        "generation",
        "classification",
        "x",
        "key",
        "last",
        "mean",
        "linear",
        "single_label",
        "llama",
    ),
    *("q", "k", "v", "o", "gate_up", "down", "head", "shared", "rank", "scale", "base", "sites", "labels", "training"),
    *(
        "classifier",
        "examples",
        "added_tokens",
        "created_by",
        "method",
        "task",
        "format",
        "prompt",
        "messages",
        "pooling",
    ),
)
_ODD = odd_values(CONFIG_WORDS)


def _places(value: Json, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the path of every value inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, inner in inside for found in _places(inner, (*path, key)))]


def _replace(value: Json, path: tuple[str | int, ...], new: Json) -> Json:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value) if isinstance(value, list) else value
    if isinstance(copy, dict | list):
        copy[path[0]] = _replace(copy[path[0]], path[1:], new)  # type: ignore[index]  # the path is the value's own
    return copy


@st.composite
def _odd_headers(draw: st.DrawFn) -> bytes:
    """Draw a valid artifact with a few values of its header or config replaced."""
    file = draw(st.sampled_from(_sound()))
    (length,) = struct.unpack("<Q", file[:8])
    header: Json = json.loads(file[8 : 8 + length])
    assert isinstance(header, dict)
    metadata = header["__metadata__"]
    assert isinstance(metadata, dict)
    config: Json = json.loads(str(metadata["headmix"]))
    for _ in range(draw(st.integers(1, 2))):
        if draw(st.booleans()):
            config = _replace(config, draw(st.sampled_from(_places(config))), draw(_ODD))
        elif isinstance(config, dict):
            config = {**config, draw(st.sampled_from(CONFIG_WORDS)): draw(_ODD)}
    metadata["headmix"] = draw(st.sampled_from([json.dumps(config), json.dumps(config), "{" * 3000]))
    if draw(st.booleans()) and draw(st.booleans()):
        header = _as_object(_replace(header, draw(st.sampled_from(_places(header))), draw(_ODD)))
    return container(json.dumps(header).encode(), file[8 + length :])


def _as_object(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {"__metadata__": value}


@st.composite
def _odd_numbers(draw: st.DrawFn) -> bytes:
    """Draw a valid artifact whose data has some bytes replaced, removed or added."""
    file = bytearray(draw(st.sampled_from(_sound())))
    (length,) = struct.unpack("<Q", file[:8])
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(8 + length, len(file) - 5))
        odd = st.sampled_from(
            [b"\x00\x7f", b"\x80\x7f\xc0\x7f", b"\x00\x00\x80\x7f", b"\x01\x00", b"\xff\xff", b"\x00\x7c"]
        )
        bytes_here = draw(odd)
        file[place : place + len(bytes_here)] = bytes_here
    end = draw(st.sampled_from([0, 0, 0, -1, -4, 4]))
    return bytes(file[:end] if end < 0 else file + bytes(end))


_KNOWN = st.sampled_from(sorted(malformed_artifacts(BASE).values()))
_RAW = st.binary(max_size=80) | st.binary(max_size=60).map(container)
TARGET = Target(_odd_headers() | _odd_headers() | _odd_numbers() | _RAW | _KNOWN, check)
