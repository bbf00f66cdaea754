"""TIES and DARE are PEFT's own: the same answers as its `ties_svd`, and for one seed the same file."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from peft.utils.merge_utils import dare_linear, dare_ties, ties

from harness.adapters.artifacts import random_artifact, tiny_base_shape
from harness.adapters.peft_lora import RENAMED, load_model, random_peft_lora
from harness.bases.families import FAMILIES
from headmix_adapters.artifact.load import load_tensors
from headmix_adapters.base import resolve_base
from headmix_adapters.config import SharedPart, SiteConfig, Sites
from headmix_adapters.convert.result import save_converted
from headmix_adapters.convert.source import convert_source
from headmix_adapters.inject import load_adapter
from headmix_adapters.merge.merge import merge
from headmix_adapters.merge.options import MergeMethod, MergeOptions
from headmix_adapters.presets import Ranks, kernel_mix_sites

pytestmark = pytest.mark.filterwarnings(RENAMED)

TARGETS = {
    "llama": ["q_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "gpt2": ["c_attn", "c_fc"],
}
BASE = tiny_base_shape()
RANK = 32
"""The rank of a full matrix of these bases, whose narrow side is the hidden size: nothing is lost."""


@pytest.mark.parametrize("family", list(TARGETS))
@pytest.mark.parametrize(("method", "theirs"), [("join", "cat"), ("ties", "ties_svd")])
def test_a_merge_answers_as_pefts_own(method: MergeMethod, theirs: str, family: str, tmp_path: Path) -> None:
    FAMILIES[family].make(tmp_path / "base")
    base, weights = resolve_base(str(tmp_path / "base")), (0.7, 0.4)
    for seed, name in enumerate("ab"):
        random_peft_lora(tmp_path / name, base, seed=seed, r=4, lora_alpha=6, target_modules=TARGETS[family])
        save_converted(convert_source(tmp_path / name, base), tmp_path / f"{name}.safetensors")
    model = PeftModel.from_pretrained(load_model(base, "CAUSAL_LM"), tmp_path / "a", adapter_name="a")
    model.load_adapter(str(tmp_path / "b"), adapter_name="b")
    model.add_weighted_adapter(["a", "b"], list(weights), "ab", theirs, svd_rank=RANK, density=0.5)
    model.set_adapter("ab")
    model.train(mode=False)
    options = MergeOptions(weights, method)
    if method == "ties":
        options = MergeOptions(weights, method, rank=RANK, density=0.5)
    merged = merge([tmp_path / "a.safetensors", tmp_path / "b.safetensors"], options)
    save_converted(merged, tmp_path / "ab.safetensors")
    own = load_model(base, "CAUSAL_LM")
    load_adapter(own, tmp_path / "ab.safetensors")
    ids = torch.randint(5, 490, (2, 9), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        torch.testing.assert_close(own(input_ids=ids).logits, model(input_ids=ids).logits, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("method", ["ties", "dare-linear", "dare-ties"])
def test_what_is_merged_are_the_terms_written_out(method: MergeMethod, tmp_path: Path) -> None:
    sites = Sites(q=SiteConfig(shared=SharedPart(rank=2, scale=2.0)))
    paths = [tmp_path / f"{seed}.safetensors" for seed in (1, 2)]
    for seed, path in enumerate(paths):
        random_artifact(path, BASE, sites, seed=seed, layers=[0], dtype=torch.float32, method="lora")
    result = merge(paths, MergeOptions((0.6, 0.9), method, rank=32, density=0.4, seed=7))
    tensors = [load_tensors(path) for path in paths]
    products = [2.0 * one["layers.0.q.shared.B"].double() @ one["layers.0.q.shared.A"].double() for one in tensors]
    function = {"ties": ties, "dare-linear": dare_linear, "dare-ties": dare_ties}[method]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        expected = function(products, torch.tensor([0.6, 0.9], dtype=torch.float64), density=0.4)
    found = result.tensors["layers.0.q.shared.B"] @ result.tensors["layers.0.q.shared.A"]
    torch.testing.assert_close(found, expected)
    assert result.notes == (f"q.shared: {method} keeps rank 32, which loses 0.00% of it (Frobenius norm)",)


def test_dare_draws_by_its_seed_alone_and_leaves_torchs_generator_as_it_was(tmp_path: Path) -> None:
    paths = [tmp_path / f"{seed}.safetensors" for seed in (1, 2)]
    for seed, path in enumerate(paths):
        random_artifact(path, BASE, kernel_mix_sites(Ranks(2, 3, 4, 2)), seed=seed, dtype=torch.float32)
    state, digests = torch.get_rng_state(), []
    for seed in (3, 3, 4):
        result = merge(paths, MergeOptions((0.5, 0.5), "dare-linear", seed=seed))
        digests.append(save_converted(result, tmp_path / "out.safetensors"))
    assert torch.equal(torch.get_rng_state(), state)
    assert digests[0] == digests[1] != digests[2]
    assert result.config.sites.v is not None
    assert result.config.sites.v.head is not None
    assert (result.config.sites.v.head.rank, result.config.sites.v.head.base) == (3, "k")
