"""A config is immutable, refuses unknown fields, and always has the same JSON text."""

import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from harness.adapters.artifacts import adapter_config, classifier_config, tiny_base_shape
from headmix_adapters.config import (
    FORMAT,
    AdapterConfig,
    HeadPart,
    SiteConfig,
    Sites,
    decode_config,
    decode_for_tensors,
    encode_config,
)

ROOT = Path(__file__).parents[2]

CONFIG = adapter_config(
    tiny_base_shape(),
    task="classification",
    classifier=classifier_config("a", "ü"),
    added_tokens=("<subject>",),
    training={"steps": 10, "metrics": {"accuracy": 0.5}},
)


def test_the_json_text_gives_the_config_back() -> None:
    assert decode_config(encode_config(CONFIG)) == CONFIG


def test_the_same_config_has_the_same_text_whatever_its_fields_order() -> None:
    turned = json.dumps(dict(reversed(json.loads(encode_config(CONFIG)).items())))
    assert encode_config(decode_config(turned)) == encode_config(CONFIG)


def test_defaults_stand_for_what_a_hand_written_header_leaves_out() -> None:
    fields = json.loads(encode_config(CONFIG))
    for optional in ("format", "classifier", "added_tokens", "training", "created_by"):
        del fields[optional]
    fields["sites"] = {"q": {"head": {"rank": 2, "base": "x"}}}
    config = decode_config(json.dumps(fields))
    assert (config.format, config.classifier, config.added_tokens, config.training) == (FORMAT, None, (), {})
    assert config.sites == Sites(q=SiteConfig(head=HeadPart(rank=2, base="x", scale=1.0, bias=True)))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("note", 1, "unknown field `note`"),
        ("sites.q.head.alpha", 1, r"unknown field `alpha` - at `\$.sites.q.head`"),
        ("sites.w", {}, r"unknown field `w` - at `\$.sites`"),
        ("method", "ia3", "Invalid enum value 'ia3'"),
        ("base.hidden_size", 32.5, r"Expected `int`, got `float` - at `\$.base.hidden_size`"),
        ("classifier.labels", ["a", 1], r"Expected `str`, got `int` - at `\$.classifier.labels\[1\]`"),
    ],
)
def test_a_header_is_understood_in_full_or_refused(path: str, value: object, message: str) -> None:
    fields = json.loads(encode_config(CONFIG))
    *parents, last = path.split(".")
    target = fields
    for parent in parents:
        target = target[parent]
    target[last] = value
    with pytest.raises(msgspec.ValidationError, match=message):
        decode_config(json.dumps(fields))


@pytest.mark.parametrize("struct", [CONFIG, CONFIG.base, CONFIG.sites, CONFIG.classifier])
def test_configs_cannot_be_changed(struct: msgspec.Struct) -> None:
    with pytest.raises(AttributeError):
        setattr(struct, struct.__struct_fields__[0], None)


def test_sites_are_listed_in_a_fixed_order_without_the_absent_ones() -> None:
    part = SiteConfig(head=HeadPart(rank=1, base="x"))
    assert list(Sites(down=part, o=part, v=part, q=part).present()) == ["q", "v", "o", "down"]


def test_what_only_mlp_adapters_need_is_absent_from_the_text_of_others() -> None:
    fields = json.loads(encode_config(CONFIG))
    assert not fields["base"].keys() & {"intermediate_size", "gated_mlp"}
    assert not fields["sites"].keys() & {"gate_up", "down"}


def test_a_padding_token_is_in_the_text_of_heads_that_have_one_alone() -> None:
    """Every other head's text, and so its artifact's digest, is the same as before the field existed."""
    assert json.loads(encode_config(CONFIG))["classifier"].keys() == {"pooling", "kind", "labels", "problem"}
    padded = adapter_config(tiny_base_shape(), task="classification", classifier=classifier_config(pad_token=3))
    assert json.loads(encode_config(padded))["classifier"]["pad_token"] == 3
    assert decode_config(encode_config(padded)) == padded
    assert CONFIG.classifier is not None
    assert CONFIG.classifier.pad_token is msgspec.UNSET


def test_a_base_may_tell_its_mlp() -> None:
    config = adapter_config(tiny_base_shape(intermediate_size=48, gated_mlp=False))
    assert json.loads(encode_config(config))["base"]["intermediate_size"] == 48
    assert decode_config(encode_config(config)) == config


def test_absent_parts_are_absent_from_the_text() -> None:
    config: AdapterConfig = adapter_config(tiny_base_shape(), Sites(q=SiteConfig(head=HeadPart(rank=1, base="x"))))
    assert json.loads(encode_config(config))["sites"].keys() == {"q"}
    assert json.loads(encode_config(config))["sites"]["q"].keys() == {"head"}


FIRST_DECODES = """
import sys, threading
from headmix_adapters.config import decode_config
sys.setswitchinterval(1e-6)
text, together = sys.stdin.read(), threading.Barrier(8)
def decode():
    together.wait()
    decode_config(text)
threads = [threading.Thread(target=decode) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_threads_may_decode_their_first_config_at_the_same_moment() -> None:
    text = encode_config(CONFIG)
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", FIRST_DECODES], input=text, text=True, check=False)
        assert done.returncode == 0


@pytest.mark.drift
def test_none_of_our_types_is_decoded_for_the_first_time_while_threads_run() -> None:
    """msgspec prepares a type at its first decode, and crashes if another thread decodes it at the same time."""
    late = re.compile(r"\b(?:json|msgpack|toml|yaml)\.decode\([^\n]*type=[^\n]*\b(?!None\b)[A-Z]")
    sources = [path for root in ("adapters", "server", "client") for path in (ROOT / root).rglob("*.py")]
    assert [str(path) for path in sources if late.search(path.read_text())] == []
    assert late.search("msgspec.json.decode(text, type=AdapterConfig)")


def test_what_says_nothing_of_tensors_is_skipped_by_what_computes() -> None:
    template = adapter_config(tiny_base_shape(), chat_template="{{ messages }}", training={"steps": 1})
    plain = adapter_config(tiny_base_shape())
    assert decode_for_tensors(encode_config(template)) == plain
    assert decode_config(encode_config(template)) == template


def test_a_header_without_template_and_examples_has_no_field_for_them() -> None:
    assert not json.loads(encode_config(CONFIG)).keys() & {"examples", "chat_template"}
