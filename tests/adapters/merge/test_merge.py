"""A merged adapter adds the weighted sum of what its adapters add: at every site, of every pair of methods."""

from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.adapters.artifacts import random_artifact, tiny_base_shape
from headmix_adapters.artifact import ArtifactError, verify_artifact
from headmix_adapters.artifact.load import load_tensors
from headmix_adapters.config import ClassifierConfig, HeadPart, SharedPart, SiteConfig, Sites
from headmix_adapters.convert.result import save_converted
from headmix_adapters.merge.errors import MergeError
from headmix_adapters.merge.merge import merge
from headmix_adapters.merge.options import MergeOptions
from headmix_adapters.presets import Ranks, kernel_mix_sites
from headmix_adapters.reference import term_delta
from headmix_adapters.sites import iter_terms

BASE = tiny_base_shape(intermediate_size=10, num_layers=3)
METHODS = {
    "lora": Sites(
        q=SiteConfig(shared=SharedPart(rank=3, scale=2.0)),
        k=SiteConfig(shared=SharedPart(rank=2)),
        v=SiteConfig(shared=SharedPart(rank=2)),
        gate_up=SiteConfig(shared=SharedPart(rank=2, scale=0.5)),
        down=SiteConfig(shared=SharedPart(rank=1)),
    ),
    "kernel-mix": kernel_mix_sites(Ranks(2, 3, 4, 2)),
    "lite": kernel_mix_sites(Ranks(1, 2, 0, 0)),
    "value on x": kernel_mix_sites(Ranks(0, 2, 1, 0), value_base="x"),
    "bd-lora": Sites(
        q=SiteConfig(head=HeadPart(rank=2, base="x", scale=1.5, bias=False)),
        v=SiteConfig(head=HeadPart(rank=1, base="x", bias=False)),
        o=SiteConfig(head=HeadPart(rank=2, base="a", scale=-1.0, bias=False)),
    ),
}
HEAD = ClassifierConfig(pooling="last", kind="mlp-tanh", labels=("a", "b"))


def write(path: Path, sites: Sites | None, **more: Any) -> Path:
    method = "kernel-mix" if sites is None or any(site.head for site in sites.present().values()) else "lora"
    changes: dict[str, Any] = {"dtype": torch.float32, "scale": 0.3, "method": method}
    random_artifact(path, BASE, sites, **(changes | more))
    return path


def merged(out: Path, paths: list[Path], *weights: float, **options: Any) -> Path:
    save_converted(merge(paths, MergeOptions(weights, **options)), out)
    return out


def additions(path: Path, seed: int = 5) -> dict[tuple[int, str], Tensor]:
    """What an adapter adds in each layer and at each site to random inputs, by the reference."""
    artifact, tensors = verify_artifact(path, base=BASE), load_tensors(path)
    generator = torch.Generator().manual_seed(seed)
    heads, size = BASE.num_heads, BASE.head_dim
    widths = {"x": 32, "m": 32, "i": 10, "a": heads * size, "k": BASE.num_kv_heads * size}
    inputs = {name: torch.randn(4, width, generator=generator).double() for name, width in widths.items()}
    total: dict[tuple[int, str], Tensor] = {}
    for term in iter_terms(artifact.config.sites):
        for layer in artifact.layers:
            A, B, bias = (tensors.get(f"layers.{layer}.{term.prefix}.{name}") for name in ("A", "B", "bias"))
            assert A is not None
            assert B is not None
            delta = term_delta(
                term, inputs[term.term.input], A.double(), B.double(), None if bias is None else bias.double()
            )
            at = (layer, term.term.site)
            total[at] = total[at] + delta if at in total else delta
    return total


def assert_weighted_sum(result: Path, paths: list[Path], weights: list[float]) -> None:
    expected: dict[tuple[int, str], Tensor] = {}
    for path, weight in zip(paths, weights, strict=True):
        for at, delta in additions(path).items():
            expected[at] = expected[at] + weight * delta if at in expected else weight * delta
    found = additions(result)
    assert found.keys() >= expected.keys()
    for at, delta in found.items():
        torch.testing.assert_close(delta, expected.get(at, torch.zeros_like(delta)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("one", "other"), list(combinations_with_replacement(METHODS, 2)))
def test_every_pair_of_methods_adds_the_weighted_sum(one: str, other: str, tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "a.safetensors", METHODS[one], layers=[0, 1], seed=1),
        write(tmp_path / "b.safetensors", METHODS[other], layers=[1, 2], seed=2),
    ]
    assert_weighted_sum(merged(tmp_path / "c.safetensors", paths, 0.7, -0.3), paths, [0.7, -0.3])


def ranks() -> st.SearchStrategy[int]:
    return st.integers(1, 4)


def head(base: str) -> st.SearchStrategy[HeadPart]:
    return st.builds(
        HeadPart, rank=ranks(), base=st.just(base), scale=st.sampled_from([1.0, 0.5, -2.0]), bias=st.booleans()
    )


SHARED = st.builds(SharedPart, rank=ranks(), scale=st.sampled_from([1.0, 0.5, -2.0]))


def site(*bases: str) -> st.SearchStrategy[SiteConfig | None]:
    heads = st.none() if not bases else st.none() | st.one_of([head(base) for base in bases])
    present = st.builds(SiteConfig, head=heads, shared=st.none() | SHARED)
    return st.none() | present.filter(lambda found: found != SiteConfig())


SITES = st.builds(Sites, q=site("x"), k=site(), v=site("k", "x"), o=site("a"), gate_up=site(), down=site()).filter(
    lambda sites: bool(sites.present())
)
WEIGHTS = st.sampled_from([1.0, 0.25, -0.5, 2.0])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(SITES, WEIGHTS, st.sets(st.integers(0, 2), min_size=1)), min_size=2, max_size=4))
def test_ranks_and_biases_of_any_adapters_are_accounted_for(
    tmp_path: Path, chosen: list[tuple[Sites, float, set[int]]]
) -> None:
    paths = [
        write(tmp_path / f"{index}.safetensors", sites, layers=sorted(layers), seed=index)
        for index, (sites, _, layers) in enumerate(chosen)
    ]
    weights = [weight for _, weight, _ in chosen]
    result = merged(tmp_path / "merged.safetensors", paths, *weights)
    assert_weighted_sum(result, paths, weights)
    config = verify_artifact(result, base=BASE).config
    for name, found in config.sites.present().items():
        shared = [own.shared.rank for sites, _, _ in chosen if (own := sites.present().get(name)) and own.shared]
        written_out = [
            own.head.rank * BASE.num_kv_heads
            for sites, _, _ in chosen
            if name == "v" and (own := sites.v) and own.head is not None and own.head.base == "x"
        ]
        rank = 0 if found.shared is None else found.shared.rank
        assert max(shared, default=0) <= rank <= sum(shared) + sum(written_out)


def test_one_file_and_digest_whatever_the_day(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.safetensors", METHODS[name], seed=1) for name in ("lora", "lite")]
    first = save_converted(merge(paths, MergeOptions((0.5, 0.5))), tmp_path / "c.safetensors")
    assert save_converted(merge(paths, MergeOptions((0.5, 0.5))), tmp_path / "d.safetensors") == first
    training = verify_artifact(tmp_path / "c.safetensors", base=BASE).config.training
    assert [one["weight"] for one in training["merged"]["adapters"]] == [0.5, 0.5]


def test_a_rank_beyond_the_largest_is_refused_with_its_summands_or_lowered_and_told(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / f"{name}.safetensors", Sites(q=SiteConfig(shared=SharedPart(rank=rank))), seed=rank)
        for name, rank in (("a", 200), ("b", 100))
    ]
    reason = r"sites.q.shared.rank: 300 \(200 of a.safetensors and 100 of b.safetensors\) is more than 256; --rank R"
    with pytest.raises(MergeError, match=reason):
        merge(paths, MergeOptions((1.0, 1.0)))
    whole = merge(paths, MergeOptions((1.0, 1.0), rank=32))  # q maps 32 values, so nothing is lost
    assert whole.notes == ("q.shared: rank 300 was lowered to 32 by SVD, which loses 0.00% of it (Frobenius norm)",)
    save_converted(whole, tmp_path / "c.safetensors")
    assert_weighted_sum(tmp_path / "c.safetensors", paths, [1.0, 1.0])


@pytest.mark.parametrize("sites", [METHODS["kernel-mix"], METHODS["bd-lora"]])
def test_a_lowered_rank_loses_what_the_note_says(sites: Sites, tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{seed}.safetensors", sites, seed=seed) for seed in (1, 2)]
    exact, low = (merge(paths, MergeOptions((1.0, 0.5), rank=rank)) for rank in (None, 2))
    assert low.config.sites.q is not None
    assert low.config.sites.q.head is not None
    assert low.config.sites.q.head.rank == 2
    lost = whole = 0.0
    for layer in range(BASE.num_layers):
        A, B = (f"layers.{layer}.q.head.{name}" for name in "AB")
        before, after = (one.tensors[B] @ one.tensors[A] for one in (exact, low))
        lost, whole = lost + float((before - after).square().sum()), whole + float(before.square().sum())
    assert f"q.head: rank 4 was lowered to 2 by SVD, which loses {(lost / whole) ** 0.5:.2%}" in low.notes[0]


def test_heads_of_the_same_labels_are_averaged_by_weight(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{seed}.safetensors", METHODS["lora"], seed=seed, classifier=HEAD) for seed in (1, 2)]
    result = load_tensors(merged(tmp_path / "c.safetensors", paths, 3.0, 1.0))
    one, other = map(load_tensors, paths)
    for name in ("classifier.dense.weight", "classifier.out_proj.bias"):
        torch.testing.assert_close(result[name], 0.75 * one[name] + 0.25 * other[name])


def test_added_tokens_are_all_kept_and_those_of_both_averaged(tmp_path: Path) -> None:
    one = write(tmp_path / "a.safetensors", METHODS["lora"], seed=1, added_tokens=("<x>", "<y>"))
    other = write(tmp_path / "b.safetensors", METHODS["lora"], seed=2, added_tokens=("<z>", "<x>"))
    result = merged(tmp_path / "c.safetensors", [one, other], 1.0, 3.0)
    assert verify_artifact(result, base=BASE).config.added_tokens == ("<x>", "<y>", "<z>")
    first, second, rows = (load_tensors(path)["added_tokens.embedding"] for path in (one, other, result))
    torch.testing.assert_close(rows, torch.stack([0.25 * first[0] + 0.75 * second[1], first[1], second[0]]))


def test_a_chat_template_is_kept_and_where_they_differ_the_firsts_with_a_note(tmp_path: Path) -> None:
    one = write(tmp_path / "a.safetensors", METHODS["lora"], seed=1, chat_template="{{ messages }}")
    other = write(tmp_path / "b.safetensors", METHODS["lora"], seed=2)
    same = merge([one, one], MergeOptions((1.0, 1.0)))
    assert (same.config.chat_template, same.notes) == ("{{ messages }}", ())
    differ = merge([one, other], MergeOptions((1.0, 1.0)))
    assert differ.config.chat_template == "{{ messages }}"
    assert differ.notes == ("chat_template: they differ; the first adapter's is used",)
    assert merge([other, one], MergeOptions((1.0, 1.0))).notes == ("chat_template: they differ; the base's is used",)


def refusal(paths: list[Path], *weights: float, **options: Any) -> str:
    with pytest.raises(MergeError) as caught:
        merge(paths, MergeOptions(weights, **options))
    return str(caught.value)


def test_what_cannot_be_merged_is_refused_by_name(tmp_path: Path) -> None:
    lora = write(tmp_path / "lora.safetensors", METHODS["lora"])
    head = write(tmp_path / "head.safetensors", METHODS["lora"], classifier=HEAD)
    other = ClassifierConfig(pooling="last", kind="mlp-tanh", labels=("a", "c"))
    labels = write(tmp_path / "labels.safetensors", METHODS["lora"], classifier=other)
    other = ClassifierConfig(pooling="mean", kind="mlp-tanh", labels=("a", "b"))
    pooled = write(tmp_path / "pooled.safetensors", METHODS["lora"], classifier=other)
    assert refusal([lora], 1.0) == "adapters: 1 given; a merge takes at least 2"
    assert refusal([lora, lora], 1.0) == "weights: 1 given for 2 adapters"
    assert refusal([lora, lora], 1.0, 0.0) == "weights: 0 for lora.safetensors is not a finite number other than 0"
    assert refusal([lora, lora], 1.0, float("nan")).startswith("weights: nan for lora.safetensors is not")
    assert refusal([lora, lora], 1.0, 1.0, rank=0) == "rank: 0 is not between 1 and 256"
    assert refusal([lora, lora], 1.0, 1.0, density=0.5).startswith("density: belongs to ties")
    assert refusal([lora, lora], 1.0, 1.0, method="ties", density=1.0) == "density: 1 is not between 0 and 1"
    assert refusal([lora, head], 1.0, 1.0) == "task: generation, classification: --first-head takes the first's"
    assert refusal([head, labels], 1.0, 1.0) == (
        "classifier: the labels are a, b and a, c; --first-head takes the first adapter's head"
    )
    assert "one is mlp-tanh on last (single_label), another mlp-tanh on mean" in refusal([head, pooled], 1.0, 1.0)
    heads = {token: msgspec.structs.replace(HEAD, pad_token=token) for token in (3, 5)}
    padded = [write(tmp_path / f"{token}.safetensors", METHODS["lora"], classifier=heads[token]) for token in heads]
    assert "one is on the last token, another on the last token that is not 3, its" in refusal([head, padded[0]], 1, 1)
    assert refusal(padded, 1.0, 1.0) == (
        "classifier: one is on the last token that is not 3, its pad token, another on the last token that is not 5, "
        "its pad token; --first-head takes the first adapter's head"
    )
    assert refusal([head, head], 1.0, -1.0) == ("weights: classifier has no mean: its adapters' weights add up to 0")
    first = merge([head, labels], MergeOptions((1.0, 1.0), first_head=True))
    assert first.config.classifier == HEAD
    assert first.notes == ("classifier: the first adapter's",)


def test_adapters_of_different_bases_are_refused(tmp_path: Path) -> None:
    one = write(tmp_path / "a.safetensors", METHODS["lite"])
    other = tmp_path / "b.safetensors"
    random_artifact(other, tiny_base_shape(num_layers=3, hidden_size=16), METHODS["lite"])
    assert "base.hidden_size: the artifact is for 16, this base has 32" in refusal([one, other], 1.0, 1.0)
    random_artifact(other, tiny_base_shape(num_layers=3, fingerprint="sha256:" + "1" * 64), METHODS["lite"])
    assert "--allow-base-mismatch accepts it" in refusal([one, other], 1.0, 1.0)
    assert merge([one, other], MergeOptions((1.0, 1.0), allow_base_mismatch=True)).config.base.hidden_size == 32


def test_a_file_that_is_no_artifact_is_refused_as_at_upload(tmp_path: Path) -> None:
    one, broken = write(tmp_path / "a.safetensors", METHODS["lite"]), tmp_path / "b.safetensors"
    broken.write_bytes(b"no artifact")
    with pytest.raises(ArtifactError):
        merge([one, broken], MergeOptions((1.0, 1.0)))
