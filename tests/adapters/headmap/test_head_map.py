"""A head map's numbers are the norms of what each head's weights change by, in every family and for every method."""

import math
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.adapters.artifacts import random_artifact
from harness.adapters.mixed_sites import MIXED_SITES, MLP_SITES
from harness.bases.families import FAMILIES, TinyFamily
from headmix_adapters.artifact import open_artifact
from headmix_adapters.artifact.load import load_tensors
from headmix_adapters.base import BaseError, ResolvedBase, resolve_base
from headmix_adapters.config import HeadPart, SiteConfig, Sites
from headmix_adapters.headmap import SiteMap, map_heads
from headmix_adapters.headmap.base_weights import BaseWeights
from headmix_adapters.inject.blocks import find_blocks
from tests.adapters.inject.dense import merged

BD_LORA = Sites(
    q=SiteConfig(head=HeadPart(rank=2, base="x", bias=False)),
    v=SiteConfig(head=HeadPart(rank=2, base="x", bias=False)),
    o=SiteConfig(head=HeadPart(rank=2, base="a", bias=False)),
)


@pytest.fixture(scope="module", params=FAMILIES.values(), ids=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> TinyFamily:
    assert isinstance(request.param, TinyFamily)
    return request.param


def weight_of(model: PreTrainedModel, base: ResolvedBase, layer: int, site: str) -> Tensor:
    """Return a site's matrix (out, in) from the model's own modules."""
    rows = []
    for place in find_blocks(model, base.shape, ["gate_up", "down"])[layer].places:
        weight = place.module.weight
        assert isinstance(weight, Tensor)
        plain = weight if isinstance(place.module, nn.Linear) else weight.T
        rows += [plain[slice(*part.columns)] for part in place.slices if part.site == site]
    return torch.cat(rows)


@pytest.mark.parametrize("sites", [*MIXED_SITES, MLP_SITES, BD_LORA])
@torch.no_grad()
def test_each_number_is_the_norm_of_what_merging_the_adapter_changes(
    family: TinyFamily, tmp_path: Path, sites: Sites
) -> None:
    model, base = family.make(tmp_path), resolve_base(str(tmp_path))
    random_artifact(tmp_path / "a.safetensors", base.shape, sites, layers=[0, 2], dtype=torch.float32)
    artifact = open_artifact(tmp_path / "a.safetensors")
    found = map_heads(artifact, base)
    changed = merged(model, artifact.config, load_tensors(artifact.path))
    assert found.layers == (0, 2)
    assert list(found.sites) == list(sites.present())
    size = base.shape.head_dim
    for site, site_map in found.sites.items():
        for row, layer in enumerate(found.layers):
            before, after = (weight_of(one, base, layer, site) for one in (model, changed))
            heads = {"q": base.shape.num_heads, "o": base.shape.num_heads}.get(site, base.shape.num_kv_heads)
            for head in range(heads if site in "qkvo" else 1):
                part = (slice(None), slice(head * size, (head + 1) * size))
                where = part if site == "o" else part[::-1] if site in "qkv" else (slice(None), slice(None))
                assert site_map.base[row][head] == pytest.approx(float(before[where].norm()), rel=1e-4)
                effect = float((after - before)[where].norm())
                assert site_map.effect[row][head] == pytest.approx(effect, rel=1e-3)
                assert site_map.relative[row][head] == pytest.approx(
                    site_map.effect[row][head] / site_map.base[row][head]
                )


def test_under_grouped_queries_keys_and_values_have_fewer_heads(tmp_path: Path) -> None:
    FAMILIES["llama"].make(tmp_path)
    base = resolve_base(str(tmp_path))
    random_artifact(tmp_path / "a.safetensors", base.shape, MIXED_SITES[2])
    found = map_heads(open_artifact(tmp_path / "a.safetensors"), base)
    assert {site: len(site_map.effect[0]) for site, site_map in found.sites.items()} == {"q": 4, "k": 2, "v": 2, "o": 4}


def test_a_head_without_effect_has_none_and_a_base_of_zeros_has_no_share() -> None:
    relative = SiteMap([[0.0, 1.0, 1.0]], [[0.0, 0.0, 4.0]]).relative[0]
    assert (relative[0], relative[2]) == (0.0, 0.25)
    assert math.isnan(relative[1])


def test_a_base_of_other_sizes_is_refused_by_the_size_that_differs(tmp_path: Path) -> None:
    FAMILIES["llama"].make(tmp_path)
    base = resolve_base(str(tmp_path))
    random_artifact(tmp_path / "a.safetensors", replace(base.shape, head_dim=8))
    with pytest.raises(BaseError, match=r"the adapter belongs to another base than .*: head_dim 8, not 12"):
        map_heads(open_artifact(tmp_path / "a.safetensors"), base)


def test_weights_of_an_unknown_family_are_an_error_with_its_name(tmp_path: Path) -> None:
    FAMILIES["llama"].make(tmp_path)
    shape = resolve_base(str(tmp_path)).shape
    with pytest.raises(BaseError, match="opt"):
        BaseWeights(tmp_path, replace(shape, model_type="opt"))
    with pytest.raises(BaseError, match=r"layers\.9\.self_attn"):
        BaseWeights(tmp_path, shape).read(9, "q")
    with pytest.raises(BaseError, match=r"layer 0, self_attn\.q_proj has the shape \(48, 32\)"):
        BaseWeights(tmp_path, replace(shape, head_dim=8)).read(0, "q")
