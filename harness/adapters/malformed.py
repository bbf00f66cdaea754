"""Malformed artifacts for tests: one file for each way a file can be wrong."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import msgspec
import torch
from torch import Tensor

from harness.adapters.artifacts import (
    Json,
    adapter_config,
    classifier_config,
    container,
    edit_header,
    pack,
    random_tensors,
)
from headmix_adapters.config import BaseShape, ExamplePrompt, encode_config


def malformed_artifacts(base: BaseShape) -> dict[str, bytes]:
    """Return one file for each kind of fault, by name: a valid artifact for `base` with a single thing wrong."""
    return _foreign_files() | _bad_headers(base) | _bad_configs(base) | _wrong_bases(base) | _bad_tensors(base)


def _foreign_files() -> dict[str, bytes]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps({"weight": [1.0]}))
    return {
        "empty file": b"",
        "three bytes": b"abc",
        "zip archive": archive.getvalue(),
        "zip archive as large as it says": archive.getvalue() + bytes(100),
        "pickle": pickle.dumps({"weight": [1.0] * 8}, protocol=4),
        "gguf": b"GGUF" + bytes(64),
        "json text": b'{"peft_type": "LORA", "r": 8}',
        "json text with a byte order mark": b'\xef\xbb\xbf {"peft_type": "LORA"}',
        "json list": b"[1, 2, 3, 4, 5, 6]",
        "web page": b"\n<!DOCTYPE html><title>404</title>",
        "git lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "gzip archive": b"\x1f\x8b\x08\x00" + bytes(30),
        "numpy array": b"\x93NUMPY\x01\x00v\x00" + bytes(30),
        "plain text": b"Dear \x1b[2J server, here is my adapter.",
        "zeros": bytes(4096),
        "header length beyond the file": struct.pack("<Q", 1000) + b"{}",
        "header length that looks like a pickle's": struct.pack("<Q", 0x280) + b"{}",
        "header longer than the limit": struct.pack("<Q", 5 << 20) + b"{" + bytes(64),
        "header length beyond the limit": struct.pack("<Q", 1 << 62) + b"{}",
        "header not JSON": container(b"{'a': 1}"),
        "header not UTF-8": container(b'{"\xff": 1}'),
        "header not an object": container(b"[]"),
        "header key twice": container(b'{"__metadata__": {}, "__metadata__": {}}'),
        "header with NaN": container(b'{"__metadata__": NaN}'),
        "header nested deeply": container(b'{"a":' * 100_000),
        "header with a lone surrogate": container(rb'{"__metadata__": {"a": "\ud800"}}'),
    }


def _bad_headers(base: BaseShape) -> dict[str, bytes]:
    config = adapter_config(base)
    good = pack(config, random_tensors(config))
    name = "layers.0.q.head.A"

    def entry(**changes: Any) -> bytes:
        return edit_header(good, lambda header: header[name].update(changes))

    def moved(by: int) -> Callable[[Json], None]:
        def edit(header: Json) -> None:
            start, stop = header[name]["data_offsets"]
            header[name]["data_offsets"] = [start + by, stop + by]

        return edit

    return {
        "metadata not an object": edit_header(good, lambda header: header.update(__metadata__=[1])),
        "metadata not strings": edit_header(good, lambda header: header["__metadata__"].update(n=1)),
        "entry without a dtype": edit_header(good, lambda header: header[name].pop("dtype") and None),
        "entry with an extra field": entry(note="x"),
        "dtype unknown": entry(dtype="Q4_1"),
        "shape negative": entry(shape=[-1, 2, 32]),
        "shape of a boolean": entry(shape=[True, 2, 32]),
        "shape and bytes disagree": entry(shape=[4, 2, 31]),
        "offsets not two": entry(data_offsets=[0]),
        "ranges overlap": edit_header(good, moved(-4)),
        "truncated": good[:-4],
        "bytes after the last tensor": good + bytes(4),
        "peft weights": edit_header(good, _to_peft_names),
    }


def _to_peft_names(header: Json) -> None:
    del header["__metadata__"]
    for index, name in enumerate(list(header)):
        header[f"base_model.model.layers.{index}.q_proj.lora_A.weight"] = header.pop(name)


def _bad_configs(base: BaseShape) -> dict[str, bytes]:
    config = adapter_config(base)
    tensors = random_tensors(config)
    good: Json = json.loads(encode_config(config))

    def changed(path: str, value: Any) -> bytes:
        copy = json.loads(json.dumps(good))
        *parents, last = path.split(".")
        target = copy
        for parent in parents:
            target = target[parent]
        target[last] = value
        return pack(copy, tensors)

    def classifying(*labels: str, examples: tuple[ExamplePrompt, ...] = (), **changes: Any) -> bytes:
        head = classifier_config(**changes)
        head = msgspec.structs.replace(head, labels=labels)
        config = adapter_config(base, task="classification", classifier=head, examples=examples)
        return pack(config, random_tensors(config))

    text = encode_config(config)
    return {
        "no config": pack(None, tensors),
        "config not JSON": pack("kernel-mix", tensors),
        "config key twice": pack(text.replace('"format":1', '"format":1,"format":1'), tensors),
        "config with an unknown field": changed("ranks", 8),
        "config without a field": pack({key: value for key, value in good.items() if key != "method"}, tensors),
        "config field of a wrong type": changed("sites.q.head.rank", "2"),
        "config field of no such choice": changed("task", "poetry\x1b[2J" + "y" * 200),
        "format unknown": changed("format", 2),
        "rank zero": changed("sites.q.head.rank", 0),
        "rank above the limit": changed("sites.v.shared.rank", 257),
        "scale zero": changed("sites.o.head.scale", 0),
        "scale infinite in float32": changed("sites.o.head.scale", -1e300),
        "scale denormal in float32": changed("sites.v.shared.scale", 1e-40),
        "scale not a number": pack(text.replace('"scale":1.0', '"scale":NaN', 1), tensors),
        "scale infinite": pack(text.replace('"scale":1.0', '"scale":1e999', 1), tensors),
        "head base of another site": changed("sites.q.head.base", "k"),
        "head part on k": changed("sites.k", {"head": {"rank": 1, "base": "x"}}),
        "site without parts": changed("sites.k", {}),
        "lora with a head part": changed("method", "lora"),
        "no site": changed("sites", {}),
        "generation with a classifier": changed("classifier", msgspec.to_builtins(classifier_config())),
        "classification without a classifier": changed("task", "classification"),
        "one label": classifying("positive"),
        "no label": classifying(problem="multi_label"),
        "label twice": classifying("a", "b", "a"),
        "label empty": classifying("a", " "),
        "label very long": classifying("a", "b" * 257),
        "example of a label there is not": classifying(
            "ham", "spam", examples=(ExamplePrompt(prompt="x", expect="eggs"),)
        ),
        "example chatted with a classifier": classifying(
            "ham", "spam", examples=(ExamplePrompt(prompt="x", chat=True),)
        ),
        "label that steers a terminal": classifying("ham", "spam\x1b[2J"),
        "regression with two labels": classifying("a", "b", problem="regression"),
        "added token twice": changed("added_tokens", ["<s>", "<s>"]),
        "more examples than are shown": changed("examples", [{"prompt": "x"}] * 5),
        "example that is too long": changed("examples", [{"prompt": "x" * 1001, "expect": "y" * 1001}]),
        "example that steers a terminal": changed("examples", [{"prompt": "a\n\tb"}, {"prompt": "\x1b[2J"}]),
        "example of nothing": changed("examples", [{"prompt": " "}]),
        "example with an unknown field": changed("examples", [{"prompt": "x", "answer": "y"}]),
        "example with tools and no chat": changed("examples", [{"prompt": "x", "tools": [{"type": "function"}]}]),
        "example with large tools": changed("examples", [{"prompt": "x", "chat": True, "tools": [{"a": "b" * 2000}]}]),
        "template of a classifier": pack(
            json.loads(encode_config(adapter_config(base, task="classification", classifier=classifier_config())))
            | {"chat_template": "{{ messages }}"},
            random_tensors(adapter_config(base, task="classification", classifier=classifier_config())),
        ),
        "template too large": changed("chat_template", "ü" * 32_769),
        "template that steers a terminal": changed("chat_template", "{{ messages }}\x1b[2J"),
        "template that is not jinja": changed("chat_template", "{% for %}"),
        "dimension zero": changed("base.head_dim", 0),
        "heads that cannot share": changed("base.num_kv_heads", 3),
    }


def _wrong_bases(base: BaseShape) -> dict[str, bytes]:
    def made_for(**changes: Any) -> bytes:
        config = adapter_config(msgspec.structs.replace(base, **changes))
        return pack(config, random_tensors(config, layers=(0, 1)))

    return {
        "another architecture": made_for(model_type="othello"),
        "another width": made_for(hidden_size=base.hidden_size * 2),
        "another depth and vocabulary": made_for(num_layers=base.num_layers + 1, vocab_size=base.vocab_size + 1),
        "other weights": made_for(fingerprint="sha256:ffffffff"),
    }


def _bad_tensors(base: BaseShape) -> dict[str, bytes]:
    config = adapter_config(base)
    good = random_tensors(config)
    name = "layers.0.q.head.B"

    def with_value(value: float, dtype: torch.dtype) -> bytes:
        tensors = {key: tensor.to(dtype, copy=True) for key, tensor in good.items()}
        tensors[name].view(-1)[3] = value
        return pack(config, tensors)

    def without(*names: str) -> dict[str, Tensor]:
        return {key: tensor for key, tensor in good.items() if key not in names}

    zeros = {key: tensor if key.endswith(".A") else torch.zeros_like(tensor) for key, tensor in good.items()}
    beyond = f"layers.{base.num_layers}.q.head.A"
    return {
        "tensor unknown": pack(config, good | {"layers.0.mlp.A": torch.ones(2)}),
        "tensor of a layer with a leading zero": pack(config, good | {"layers.00.q.head.A": good["layers.0.q.head.A"]}),
        "tensor not in the config": pack(config, good | {"layers.0.k.shared.A": torch.ones(1, base.hidden_size)}),
        "classifier not in the config": pack(config, good | {"classifier.out_proj.bias": torch.ones(2)}),
        "tensor missing": pack(config, without(name)),
        "layer half there": pack(config, without("layers.1.v.head.A", "layers.1.v.head.bias")),
        "layer beyond the base": pack(config, good | {beyond: good["layers.0.q.head.A"]}),
        "no layer": pack(config, {}),
        "shape transposed": pack(config, good | {name: good[name].mT.contiguous()}),
        "dtype integer": pack(config, good | {name: torch.ones(good[name].shape, dtype=torch.int32)}),
        "value NaN in bfloat16": with_value(float("nan"), torch.bfloat16),
        "value infinite in float16": with_value(float("inf"), torch.float16),
        "value infinite in float32": with_value(float("-inf"), torch.float32),
        "value beyond float32": with_value(1e300, torch.float64),
        "zero effect": pack(config, zeros),
        "zero effect, A too": pack(config, {key: torch.zeros_like(tensor) for key, tensor in good.items()}),
        "zero effect, no A": pack(
            config, {key: tensor if key.endswith(".B") else torch.zeros_like(tensor) for key, tensor in good.items()}
        ),
    }
