"""What `verify` accepts, what its options change, and that it refuses any damaged file cleanly."""

from pathlib import Path

import msgspec
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.adapters.artifacts import (
    adapter_config,
    classifier_config,
    pack,
    random_artifact,
    random_tensors,
    tiny_base_shape,
)
from harness.adapters.malformed import malformed_artifacts
from headmix_adapters.artifact import ArtifactError, Limits, verify_artifact
from headmix_adapters.config import HeadPart, SharedPart, SiteConfig, Sites

BASE = tiny_base_shape()


def faults_of(path: Path, *, allow_base_mismatch: bool = False) -> list[str]:
    with pytest.raises(ArtifactError) as caught:
        verify_artifact(path, base=BASE, allow_base_mismatch=allow_base_mismatch)
    return [str(fault) for fault in caught.value.faults]


def faults_or_none(path: Path) -> list[str] | None:
    try:
        verify_artifact(path, base=BASE, allow_base_mismatch=True)
    except ArtifactError as error:
        return [str(fault) for fault in error.faults]
    return None


def test_an_artifact_of_some_layers_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    random_artifact(path, BASE, layers=[1])
    assert verify_artifact(path, base=BASE).layers == (1,)


MLP = Sites(gate_up=SiteConfig(shared=SharedPart(rank=2)), down=SiteConfig(shared=SharedPart(rank=3)))


def test_an_adapter_of_the_mlp_is_sound_on_the_base_it_was_made_for(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    base = tiny_base_shape(intermediate_size=48, gated_mlp=False)
    random_artifact(path, base, MLP, method="lora")
    assert verify_artifact(path, base=base).layers == (0, 1)
    with pytest.raises(ArtifactError) as caught:
        verify_artifact(path, base=tiny_base_shape(intermediate_size=24))
    assert [str(fault) for fault in caught.value.faults] == [
        "base.intermediate_size: the artifact is for 48, this base has 24",
        "base.gated_mlp: the artifact is for False, this base has True",
    ]


def test_an_adapter_of_attention_alone_fits_whatever_the_mlp_is(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    random_artifact(path, BASE)
    verify_artifact(path, base=tiny_base_shape(intermediate_size=48, gated_mlp=False))


def test_an_adapter_of_the_mlp_must_tell_its_width(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    config = adapter_config(BASE, MLP)
    path.write_bytes(pack(config, {"layers.0.down.shared.A": torch.ones(3, 48)}))
    assert faults_of(path) == [
        "base.intermediate_size: 0 is not between 1 and 1048576, which sites gate_up and down need",
    ]


def test_the_mlp_has_no_head_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    config = adapter_config(
        tiny_base_shape(intermediate_size=48), Sites(down=SiteConfig(head=HeadPart(rank=1, base="x")))
    )
    path.write_bytes(pack(config, {"layers.0.down.head.A": torch.ones(3, 48)}))
    assert "sites.down.head.base: x is not defined for site down (no head part)" in faults_of(path)


def test_a_classifier_without_sites_has_an_effect(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    config = adapter_config(BASE, task="classification", classifier=classifier_config())
    config = msgspec.structs.replace(config, sites=type(config.sites)())
    path.write_bytes(pack(config, random_tensors(config)))
    assert verify_artifact(path, base=BASE).layers == ()


def test_a_classifier_of_zero_weight_has_none(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    config = adapter_config(BASE, task="classification", classifier=classifier_config())
    tensors = {name: torch.zeros_like(value) for name, value in random_tensors(config).items()}
    path.write_bytes(pack(config, tensors | {"classifier.out_proj.bias": torch.ones(2)}))
    assert faults_of(path) == [
        "zero effect: every B and every bias is zero in float32, so it would answer like the base alone",
    ]


def test_a_single_bias_of_one_value_is_an_effect(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    config = adapter_config(BASE)
    tensors = {name: torch.zeros_like(value) for name, value in random_tensors(config).items()}
    tensors["layers.1.o.head.bias"][5] = -1.0
    path.write_bytes(pack(config, tensors))
    assert verify_artifact(path, base=BASE).config == config


def test_negative_zeros_are_zeros(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    config = adapter_config(BASE)
    zeros = {name: -torch.zeros_like(value, dtype=torch.bfloat16) for name, value in random_tensors(config).items()}
    path.write_bytes(pack(config, zeros))
    assert faults_of(path)[0].startswith("zero effect")


def test_other_weights_are_accepted_when_allowed_and_other_sizes_never(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    malformed = malformed_artifacts(BASE)
    path.write_bytes(malformed["other weights"])
    assert verify_artifact(path, base=BASE, allow_base_mismatch=True).config.base.fingerprint != BASE.fingerprint
    path.write_bytes(malformed["another width"])
    assert faults_of(path, allow_base_mismatch=True) == ["base.hidden_size: the artifact is for 64, this base has 32"]


def test_without_a_base_the_artifact_is_checked_against_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(malformed_artifacts(BASE)["another width"])
    assert verify_artifact(path, base=None).config.base.hidden_size == 64


def test_a_file_above_the_size_limit_is_not_even_parsed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(bytes(1001))
    with pytest.raises(ArtifactError, match="the file is 1001 bytes long, more than the limit of 1000"):
        verify_artifact(path, base=None, limits=Limits(max_bytes=1000))


def test_ranks_and_labels_are_held_to_the_limits_given(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    random_artifact(path, BASE, classifier=classifier_config("a", "b", "c"))
    with pytest.raises(ArtifactError) as caught:
        verify_artifact(path, base=BASE, limits=Limits(max_rank=3, max_labels=2))
    assert [str(fault) for fault in caught.value.faults] == [
        "sites.q.shared.rank: 4 is not between 1 and 3",
        "classifier.labels: 3 are more than the limit of 2",
    ]


@pytest.mark.parametrize(
    ("pooling", "pad_token", "faults"),
    [
        ("last", 0, None),
        ("last", BASE.vocab_size - 1, None),
        ("last", BASE.vocab_size, [f"classifier.pad_token: {BASE.vocab_size} is not a token of the base"]),
        ("last", -1, ["classifier.pad_token: -1 is not a token of the base"]),
        ("cls", 0, ["classifier.pad_token: only pooling last looks past a token"]),
        ("mean", 0, ["classifier.pad_token: only pooling last looks past a token"]),
    ],
)
def test_a_padding_token_is_one_of_the_bases_and_goes_with_the_last_token(
    tmp_path: Path, pooling: str, pad_token: int, faults: list[str] | None
) -> None:
    path = tmp_path / "a.safetensors"
    random_artifact(path, BASE, classifier=classifier_config(pooling=pooling, pad_token=pad_token))
    found = faults_or_none(path)
    assert (found is None) == (faults is None)
    for fault, beginning in zip(found or [], faults or [], strict=True):
        assert fault.startswith(beginning)


def test_every_fault_is_listed_not_only_the_first(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    config = adapter_config(BASE, method="lora")
    tensors = random_tensors(config)
    tensors["layers.0.q.head.A"][0, 0, :2] = float("nan")
    del tensors["layers.1.o.head.bias"]
    path.write_bytes(pack(config, tensors | {"weight": torch.ones(1, dtype=torch.int64)}))
    assert faults_of(path) == [
        "sites.q.head: method lora has shared parts only",
        "sites.v.head: method lora has shared parts only",
        "sites.o.head: method lora has shared parts only",
        "weight: unknown: the format has no tensor of this name",
        "weight: dtype I64 is not one of F16, BF16, F32, F64",
        "layers.1.o.head.bias: missing: a tensor of shape [32] is expected",
        "layers.0.q.head.A: 2 of its values are not finite in float32",
    ]


def test_a_thousand_faults_are_counted_beyond_a_hundred(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    config = adapter_config(BASE)
    path.write_bytes(pack(config, random_tensors(config) | {f"x{n}": torch.ones(1) for n in range(1000)}))
    faults = faults_of(path)
    assert len(faults) == 101
    assert faults[-1] == "and 900 more faults"


def test_names_from_the_file_cannot_write_to_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    config = adapter_config(BASE)
    path.write_bytes(pack(config, random_tensors(config) | {"\x1b[2J\n" + "y" * 500: torch.ones(1)}))
    (fault,) = faults_of(path)
    assert fault.isprintable()
    assert fault.startswith(r"\x1b[2J\nyyy")
    assert len(fault) < 250


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bits_are_refused_or_harmless_and_never_anything_else(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "flipped.safetensors"
    config = adapter_config(BASE)
    content = bytearray(pack(config, random_tensors(config)))
    # Half of the flips go to the header, which has the syntax.
    header = 8 + int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.one_of(st.integers(0, header - 1), st.integers(0, len(content) - 1)))
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    faults = faults_or_none(path)
    assert faults is None or (faults and all(fault.isprintable() for fault in faults))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "noise"
    path.write_bytes(content)
    with pytest.raises(ArtifactError):
        verify_artifact(path, base=None)
