"""A LoRA of the largest rank on gate and up each, which an artifact keeps as one term, is served on every path."""

from pathlib import Path

import pytest
import torch

from harness.adapters.artifacts import random_artifact, tiny_base_shape
from harness.adapters.peft_lora import RENAMED, random_peft_lora
from harness.bases.families import FAMILIES
from harness.exactness import Case, compare
from harness.random_prompt import random_prompt
from headmix_adapters.artifact import ArtifactError, Limits, verify_artifact
from headmix_adapters.base import resolve_base
from headmix_adapters.config import SharedPart, SiteConfig, Sites
from headmix_adapters.convert.result import save_converted
from headmix_adapters.convert.source import convert_source
from headmix_server.core.artifact_limits import artifact_limits
from headmix_server.core.settings.settings import Settings
from headmix_server.llm.session import build_engine

LARGEST = Sites(gate_up=SiteConfig(shared=SharedPart(rank=512)))


@pytest.mark.filterwarnings(RENAMED)
@pytest.mark.parametrize(("kernels", "dtype"), [("native", "float32"), ("torch", "float32"), ("torch", "bfloat16")])
def test_rank_256_on_gate_and_up_each_answers_as_transformers_does(tmp_path: Path, kernels: str, dtype: str) -> None:
    torch.set_num_threads(1)
    oracle = FAMILIES["llama"].make(tmp_path / "base", {"intermediate_size": 272, "hidden_size": 272})
    base = resolve_base(str(tmp_path / "base"))
    random_peft_lora(tmp_path / "peft", base, r=256, lora_alpha=4, target_modules=["gate_proj", "up_proj"])
    path = tmp_path / "a.safetensors"
    save_converted(convert_source(tmp_path / "peft", base), path)
    artifact = verify_artifact(path, base=base.shape, limits=artifact_limits(Settings(base="tiny")))
    assert artifact.config.sites == Sites(gate_up=SiteConfig(shared=SharedPart(rank=512, scale=4 / 256)))
    settings = Settings(
        base="tiny",
        adapter_slots=2,
        kv_cache_mib=1,
        adapter_kernels=kernels,
        dtype=dtype,
    )
    engine = build_engine(base, settings)
    prompts = [random_prompt(length, base.shape.vocab_size, length) for length in (1, 7, 20)]
    cases = [Case("largest", prompt, path, 6) for prompt in prompts] + [Case("base", prompts[1], None, 6)]
    verdict = compare(engine, oracle.to(getattr(torch, dtype)), cases)
    engine.close()
    assert verdict.wrong == ()


def test_twice_the_largest_rank_is_for_gate_up_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    base = tiny_base_shape(intermediate_size=48)
    random_artifact(path, base, LARGEST, method="lora")
    assert verify_artifact(path, base=base).config.sites == LARGEST
    with pytest.raises(ArtifactError, match=r"sites.gate_up.shared.rank: 512 is not between 1 and 254"):
        verify_artifact(path, base=base, limits=Limits(max_rank=127))
    random_artifact(path, base, Sites(q=SiteConfig(shared=SharedPart(rank=257))), method="lora")
    with pytest.raises(ArtifactError, match=r"sites.q.shared.rank: 257 is not between 1 and 256"):
        verify_artifact(path, base=base)
