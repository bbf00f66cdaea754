"""Every kind of malformed file is refused with its own message."""

from pathlib import Path

import pytest

from harness.adapters.artifacts import tiny_base_shape
from harness.adapters.malformed import malformed_artifacts
from headmix_adapters.artifact import ArtifactError, verify_artifact

EXPECTED: dict[str, list[str]] = {
    "empty file": [
        "the file is empty",
    ],
    "three bytes": [
        "this is not a safetensors file: it is only 3 bytes long",
    ],
    "zip archive": [
        "this is a zip archive (perhaps PyTorch's .bin or .pt); pickle is never read, save it as safetensors",
    ],
    "zip archive as large as it says": [
        "this is a zip archive (perhaps PyTorch's .bin or .pt); pickle is never read, save it as safetensors",
    ],
    "pickle": [
        "this is a Python pickle; pickle is never read, save it as safetensors",
    ],
    "gguf": [
        "this is a GGUF file, not safetensors",
    ],
    "json text": [
        "this is a JSON file, not safetensors",
    ],
    "json text with a byte order mark": [
        "this is a JSON file, not safetensors",
    ],
    "json list": [
        "this is a JSON file, not safetensors",
    ],
    "web page": [
        "this is a web page or XML file, not safetensors: perhaps an error page that was saved as a download",
    ],
    "git lfs pointer": [
        "this is a Git LFS pointer, not the file itself: fetch it with `git lfs pull`",
    ],
    "gzip archive": [
        "this is a gzip archive: unpack it first",
    ],
    "numpy array": [
        "this is a NumPy array, not safetensors",
    ],
    "plain text": [
        r"this is not a safetensors file: it begins with 'Dear \x1b[2J server'",
    ],
    "zeros": [
        "this is not a safetensors file: it begins with '" + r"\x00" * 16 + "'",
    ],
    "header length beyond the file": [
        "the file is truncated: its header is 1000 bytes long, and only 2 of them are there",
    ],
    "header length that looks like a pickle's": [
        "the file is truncated: its header is 640 bytes long, and only 2 of them are there",
    ],
    "header longer than the limit": [
        "the header is 5242880 bytes long, more than the limit of 4194304",
    ],
    "header length beyond the limit": [
        r"this is not a safetensors file: it begins with '\x00\x00\x00\x00\x00\x00\x00@{}'",
    ],
    "header not JSON": [
        "the header is not valid JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
    ],
    "header not UTF-8": [
        "the header is not valid JSON: 'utf-8' codec can't decode byte 0xff in position 2: invalid start byte",
    ],
    "header not an object": [
        r"this is not a safetensors file: it begins with '\x02\x00\x00\x00\x00\x00\x00\x00[]'",
    ],
    "header key twice": [
        'the header is not valid JSON: key "__metadata__" appears twice',
    ],
    "header with NaN": [
        "the header is not valid JSON: NaN is not JSON",
    ],
    "header nested deeply": [
        "the header is not valid JSON: nested too deeply",
    ],
    "header with a lone surrogate": [
        "the header is not valid JSON: a string holds a lone surrogate",
    ],
    "metadata not an object": [
        "the header's __metadata__ is not an object of strings",
    ],
    "metadata not strings": [
        "the header's __metadata__ is not an object of strings",
    ],
    "entry without a dtype": [
        "layers.0.q.head.A: its header entry is not an object of dtype, shape and data_offsets",
    ],
    "entry with an extra field": [
        "layers.0.q.head.A: its header entry is not an object of dtype, shape and data_offsets",
    ],
    "dtype unknown": [
        "layers.0.q.head.A: dtype Q4_1 is not known",
    ],
    "shape negative": [
        "layers.0.q.head.A: its shape is not a list of at most 8 sizes",
    ],
    "shape of a boolean": [
        "layers.0.q.head.A: its shape is not a list of at most 8 sizes",
    ],
    "shape and bytes disagree": [
        "layers.0.q.head.A: F32 [4, 2, 31] takes 992 bytes, its data_offsets span 1024",
    ],
    "offsets not two": [
        "layers.0.q.head.A: its data_offsets are not two byte positions",
    ],
    "ranges overlap": [
        "layers.0.q.head.A: its bytes overlap 4 bytes of another tensor",
        "layers.0.q.head.B: 4 unused bytes lie before it",
    ],
    "truncated": [
        "the file is truncated: its last 4 bytes are missing",
    ],
    "bytes after the last tensor": [
        "4 bytes follow the last tensor",
    ],
    "peft weights": [
        (
            "these are a PEFT LoRA's weights, not an artifact: run `headmix convert` on its folder, or upload it with "
            "adapter_config.json as the field config"
        ),
    ],
    "no config": [
        "this is not a headmix artifact: the header's __metadata__ has no headmix entry",
    ],
    "config not JSON": [
        "the headmix metadata: not valid JSON: Expecting value: line 1 column 1 (char 0)",
    ],
    "config key twice": [
        'the headmix metadata: not valid JSON: key "format" appears twice',
    ],
    "config with an unknown field": [
        "the headmix metadata: Object contains unknown field `ranks`",
    ],
    "config without a field": [
        "the headmix metadata: Object missing required field `method`",
    ],
    "config field of a wrong type": [
        "the headmix metadata: Expected `int`, got `str` - at `$.sites.q.head.rank`",
    ],
    "config field of no such choice": [
        (
            rf"the headmix metadata: Invalid enum value 'poetry\x1b[2J{'y' * 87}...; "
            "it must be one of classification, generation"
        ),
    ],
    "format unknown": [
        "format: 2 is not supported, this version reads format 1",
    ],
    "rank zero": [
        "sites.q.head.rank: 0 is not between 1 and 256",
    ],
    "rank above the limit": [
        "sites.v.shared.rank: 257 is not between 1 and 256",
    ],
    "scale zero": [
        "sites.o.head.scale: 0 is not a finite number other than 0 in float32",
    ],
    "scale infinite in float32": [
        "sites.o.head.scale: -1e+300 is not a finite number other than 0 in float32",
    ],
    "scale denormal in float32": [
        "sites.v.shared.scale: 1e-40 is not a finite number other than 0 in float32",
    ],
    "scale not a number": [
        "the headmix metadata: not valid JSON: NaN is not JSON",
    ],
    "scale infinite": [
        "the headmix metadata: Number out of range - at `$.sites.o.head.scale`",
    ],
    "head base of another site": [
        "sites.q.head.base: k is not defined for site q (x)",
    ],
    "head part on k": [
        "sites.k.head.base: x is not defined for site k (no head part)",
    ],
    "site without parts": [
        "sites.k: neither a head nor a shared part",
    ],
    "lora with a head part": [
        "sites.q.head: method lora has shared parts only",
        "sites.v.head: method lora has shared parts only",
        "sites.o.head: method lora has shared parts only",
    ],
    "no site": [
        "sites: a generation adapter needs at least one",
        "layers.0.o.head.A: extra: the config does not ask for it",
        "layers.0.o.head.B: extra: the config does not ask for it",
        "layers.0.o.head.bias: extra: the config does not ask for it",
        "layers.0.o.shared.A: extra: the config does not ask for it",
        "layers.0.o.shared.B: extra: the config does not ask for it",
        "layers.0.q.head.A: extra: the config does not ask for it",
        "layers.0.q.head.B: extra: the config does not ask for it",
        "layers.0.q.head.bias: extra: the config does not ask for it",
        "layers.0.q.shared.A: extra: the config does not ask for it",
        "layers.0.q.shared.B: extra: the config does not ask for it",
        "layers.0.v.head.A: extra: the config does not ask for it",
        "layers.0.v.head.B: extra: the config does not ask for it",
        "layers.0.v.head.bias: extra: the config does not ask for it",
        "layers.0.v.shared.A: extra: the config does not ask for it",
        "layers.0.v.shared.B: extra: the config does not ask for it",
        "layers.1.o.head.A: extra: the config does not ask for it",
        "layers.1.o.head.B: extra: the config does not ask for it",
        "layers.1.o.head.bias: extra: the config does not ask for it",
        "layers.1.o.shared.A: extra: the config does not ask for it",
        "layers.1.o.shared.B: extra: the config does not ask for it",
        "layers.1.q.head.A: extra: the config does not ask for it",
        "layers.1.q.head.B: extra: the config does not ask for it",
        "layers.1.q.head.bias: extra: the config does not ask for it",
        "layers.1.q.shared.A: extra: the config does not ask for it",
        "layers.1.q.shared.B: extra: the config does not ask for it",
        "layers.1.v.head.A: extra: the config does not ask for it",
        "layers.1.v.head.B: extra: the config does not ask for it",
        "layers.1.v.head.bias: extra: the config does not ask for it",
        "layers.1.v.shared.A: extra: the config does not ask for it",
        "layers.1.v.shared.B: extra: the config does not ask for it",
    ],
    "generation with a classifier": [
        "classifier: present, but task is generation",
        "classifier.out_proj.weight: missing: a tensor of shape [2, 32] is expected",
        "classifier.out_proj.bias: missing: a tensor of shape [2] is expected",
    ],
    "classification without a classifier": [
        "classifier: missing, and task is classification",
    ],
    "one label": [
        "classifier.labels: single_label needs at least 2, not 1",
    ],
    "no label": [
        "classifier.labels: at least 1 is needed",
    ],
    "label twice": [
        "classifier.labels[2]: a appears twice",
    ],
    "label empty": [
        "classifier.labels[1]: empty",
    ],
    "label very long": [
        "classifier.labels[1]: longer than 256 characters",
    ],
    "more examples than are shown": [
        "examples: 5 are more than the limit of 4",
    ],
    "example that is too long": [
        "examples[0].prompt: longer than 1000 characters",
        "examples[0].expect: longer than 1000 characters",
    ],
    "example that steers a terminal": [
        r"examples[1].prompt: \x1b[2J holds control characters",
    ],
    "example of nothing": [
        "examples[0].prompt: empty",
    ],
    "example with an unknown field": [
        "the headmix metadata: Object contains unknown field `answer` - at `$.examples[0]`",
    ],
    "example of a label there is not": [
        "examples[0].expect: eggs is not one of the labels ham, spam",
    ],
    "example chatted with a classifier": [
        "examples[0].chat: true, but a text is classified and not chatted with",
    ],
    "label that steers a terminal": [
        r"classifier.labels[1]: spam\x1b[2J holds control characters",
    ],
    "regression with two labels": [
        "classifier.labels: regression has exactly 1, not 2",
    ],
    "added token twice": [
        "added_tokens[1]: <s> appears twice",
        "added_tokens.embedding: missing: a tensor of shape [2, 32] is expected",
    ],
    "example with tools and no chat": [
        "examples[0].tools: present, but only a chat has tools",
    ],
    "example with large tools": [
        "examples[0].tools: 2020 bytes of JSON, more than the limit of 1000",
    ],
    "template of a classifier": [
        "chat_template: present, but a text is classified and not chatted with",
    ],
    "template too large": [
        "chat_template: 65538 bytes, more than the limit of 65536",
    ],
    "template that steers a terminal": [
        "chat_template: it holds control characters",
    ],
    "template that is not jinja": [
        "chat_template: the chat template is not valid: Expected an expression, got 'end of statement block'",
    ],
    "dimension zero": [
        "base.head_dim: 0 is not between 1 and 1048576",
        "base.head_dim: the artifact is for 0, this base has 8",
    ],
    "heads that cannot share": [
        "base.num_kv_heads: 4 heads cannot share 3 key/value heads",
        "base.num_kv_heads: the artifact is for 3, this base has 2",
    ],
    "another architecture": [
        "base.model_type: the artifact is for othello, this base is llama",
    ],
    "another width": [
        "base.hidden_size: the artifact is for 64, this base has 32",
    ],
    "another depth and vocabulary": [
        "base.num_layers: the artifact is for 3, this base has 2",
        "base.vocab_size: the artifact is for 65, this base has 64",
    ],
    "other weights": [
        "base.fingerprint: trained on sha256:ffffffff, the base is sha256:00000000; allow_base_mismatch accepts it",
    ],
    "tensor unknown": [
        "layers.0.mlp.A: unknown: the format has no tensor of this name",
    ],
    "tensor of a layer with a leading zero": [
        "layers.00.q.head.A: unknown: the format has no tensor of this name",
    ],
    "tensor not in the config": [
        "layers.0.k.shared.A: extra: the config does not ask for it",
    ],
    "classifier not in the config": [
        "classifier.out_proj.bias: extra: the config does not ask for it",
    ],
    "tensor missing": [
        "layers.0.q.head.B: missing: a tensor of shape [4, 8, 2] is expected",
    ],
    "layer half there": [
        "layers.1.v.head.A: missing: a tensor of shape [2, 3, 8] is expected",
        "layers.1.v.head.bias: missing: a tensor of shape [2, 8] is expected",
    ],
    "layer beyond the base": [
        "layers.2.q.head.A: layer 2 is not one of the base's 2 layers, counted from 0",
    ],
    "no layer": [
        "the config has sites, but no layer of the base is adapted",
    ],
    "shape transposed": [
        "layers.0.q.head.B: its shape is [4, 2, 8], the config and base ask for [4, 8, 2]",
    ],
    "dtype integer": [
        "layers.0.q.head.B: dtype I32 is not one of F16, BF16, F32, F64",
    ],
    "value NaN in bfloat16": [
        "layers.0.q.head.B: 1 of its values are not finite in float32",
    ],
    "value infinite in float16": [
        "layers.0.q.head.B: 1 of its values are not finite in float32",
    ],
    "value infinite in float32": [
        "layers.0.q.head.B: 1 of its values are not finite in float32",
    ],
    "value beyond float32": [
        "layers.0.q.head.B: 1 of its values are not finite in float32",
    ],
    "zero effect": [
        "zero effect: every B and every bias is zero in float32, so it would answer like the base alone",
    ],
    "zero effect, A too": [
        "zero effect: every B and every bias is zero in float32, so it would answer like the base alone",
    ],
    "zero effect, no A": [
        "zero effect: every B and every bias is zero in float32, so it would answer like the base alone",
    ],
}
MALFORMED = malformed_artifacts(tiny_base_shape())


def test_every_malformed_kind_has_its_words() -> None:
    assert MALFORMED.keys() == EXPECTED.keys()


@pytest.mark.parametrize("kind", EXPECTED)
def test_a_malformed_file_is_refused_with_every_fault_and_no_other(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(MALFORMED[kind])
    with pytest.raises(ArtifactError) as caught:
        verify_artifact(path, base=tiny_base_shape())
    assert [str(fault) for fault in caught.value.faults] == EXPECTED[kind]
