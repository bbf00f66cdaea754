"""The parity matrix: every family with no adapter, Kernel-mix, its lite form and LoRA, alone and in a mixed batch.

Each request goes through the engine with all others and alone, and through `inject` on the transformers model.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.adapters.artifacts import random_artifact
from harness.bases.families import FAMILIES
from harness.exactness import Case, compare
from harness.random_prompt import random_prompt
from headmix_adapters.base import resolve_base
from headmix_adapters.config import BaseShape, ClassifierConfig, Method, SharedPart, SiteConfig, Sites
from headmix_adapters.presets import Ranks, kernel_mix_sites
from headmix_server.core.settings.settings import Settings
from headmix_server.llm.session import build_engine

STRENGTH = 0.3
"""The scale of the random adapters: enough to change the answers."""


def shared(rank: int) -> SiteConfig:
    return SiteConfig(shared=SharedPart(rank=rank, scale=0.7))


METHODS: dict[str, tuple[Method, Sites]] = {
    "kernel-mix": ("kernel-mix", kernel_mix_sites(Ranks(q=2, v=3, q_shared=4, v_shared=1))),
    "lite": ("kernel-mix", kernel_mix_sites(Ranks(q=3, v=4, q_shared=0, v_shared=0))),
    "lora": ("lora", Sites(q=shared(4), k=shared(2), v=shared(3), o=shared(1), gate_up=shared(2), down=shared(3))),
}
HEADS = (
    ClassifierConfig(pooling="cls", kind="linear", labels=("a", "b")),
    ClassifierConfig(pooling="mean", kind="mlp-tanh", labels=("a", "b", "c"), problem="multi_label"),
    ClassifierConfig(pooling="last", kind="mlp-tanh", labels=("score",), problem="regression"),
)


def make_cases(base: BaseShape, folder: Path, *, causal: bool) -> list[Case]:
    """Make two requests for every method and head, and two for the base alone, with lengths up to 40.

    On a base with token types every classification comes as a pair of texts too.
    """
    cases: list[Case] = []

    def add(name: str, adapter: Path | None, max_tokens: int) -> None:
        for _ in range(2):
            prompt = random_prompt(1 + 13 * len(cases) % 40, base.vocab_size, len(cases))
            cases.append(Case(name, prompt, adapter, max_tokens))

    add("base", None, 8 if causal else 0)
    for seed, (name, (method, sites)) in enumerate(METHODS.items()):
        classifying, generating = folder / f"{name}-head.safetensors", folder / f"{name}.safetensors"
        random_artifact(
            classifying, base, sites, seed=seed, classifier=HEADS[seed], scale=STRENGTH, method=method, layers=(0, 2)
        )
        add(f"{name} head", classifying, 0)
        if causal:
            random_artifact(generating, base, sites, seed=10 + seed, scale=STRENGTH, method=method)
            add(name, generating, 8)
    texts = [case for case in cases if case.adapter is not None and len(case.prompt) > 1]
    typed = texts if base.model_type == "bert" else []
    return [*cases, *(replace(case, name=f"{case.name} pair", second=1 + len(case.prompt) // 3) for case in typed)]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_method_answers_on_every_family_alone_and_mixed_as_on_transformers(tmp_path: Path, name: str) -> None:
    torch.set_num_threads(1)
    family = FAMILIES[name]
    oracle = family.make(tmp_path / "base")
    base = resolve_base(str(tmp_path / "base"))
    engine = build_engine(base, Settings(base="tiny", max_batch_tokens=48, adapter_slots=8, kv_cache_mib=1))
    cases = make_cases(base.shape, tmp_path, causal=family.causal)
    verdict = compare(engine, oracle, cases)
    engine.close()
    assert verdict.wrong == ()
    assert verdict.identical >= len(cases) - 1
