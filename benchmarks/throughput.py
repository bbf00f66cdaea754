"""Tokens a second of one workload: 32 requests of 64 prompt and 32 output tokens, greedy, no early stop.

Ours runs in process on the base alone and with 1, 4 and 16 distinct Kernel-mix adapters of the authors' GPT-2 preset;
beside it, in the same run and interleaved with it, transformers' static batch without adapters. Medians over rounds and
ratios of medians, because machines are noisy. The last line is one JSON object.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, PreTrainedModel

from benchmarks.engine_rig import EngineRig, adapter_ref, build_engine, random_prompt
from benchmarks.machine import describe_machine
from headmix_adapters.base import ResolvedBase, resolve_base
from headmix_adapters.presets import kernel_mix_sites, preset_ranks
from headmix_server.core.messages import Generate
from headmix_server.core.settings import Settings
from headmix_server.core.types import AdapterRef, SamplingParams
from headmix_server.engine.loop import Engine
from tests.support.artifacts import random_artifact

REQUESTS, PROMPT_TOKENS, OUTPUT_TOKENS = 32, 64, 32
DISTINCT = (0, 1, 4, 16)


def run_ours(engine: Engine, prompts: list[list[int]], refs: list[AdapterRef]) -> float:
    """Return the seconds our engine takes; request i runs with adapter i modulo their number, or with the base."""
    rig = EngineRig(engine)
    sampling = SamplingParams(max_tokens=OUTPUT_TOKENS, temperature=0, ignore_eos=True)
    began = time.perf_counter()
    for index, prompt in enumerate(prompts):
        adapter = refs[index % len(refs)] if refs else None
        rig.submit(Generate(request_id=str(index), tenant="default", prompt=prompt, adapter=adapter, sampling=sampling))
    rig.drain()
    seconds = time.perf_counter() - began
    short = [name for name, answer in rig.answers.items() if len(answer.tokens) != OUTPUT_TOKENS]
    if short:
        raise RuntimeError(f"requests {short} did not get their tokens: {rig.answers[short[0]].failure}")
    return seconds


@torch.inference_mode()
def run_transformers(model: PreTrainedModel, prompts: list[list[int]]) -> float:
    """Return the seconds transformers' static batch takes; all prompts are equally long, so nothing is padded."""
    inputs = torch.tensor(prompts)
    began = time.perf_counter()
    cast("Any", model).generate(  # transformers types its `self` as something no model class is
        input_ids=inputs,
        attention_mask=torch.ones_like(inputs),
        max_new_tokens=OUTPUT_TOKENS,
        min_new_tokens=OUTPUT_TOKENS,
        do_sample=False,
    )
    return time.perf_counter() - began


def make_adapters(base: ResolvedBase, folder: Path, count: int) -> list[AdapterRef]:
    """Write random adapters of the GPT-2 preset and refer to them."""
    sites = kernel_mix_sites(preset_ranks("gpt2-nlg"))
    refs = []
    for seed in range(count):
        path = folder / f"adapter-{seed}.safetensors"
        random_artifact(path, base.shape, sites, seed=seed, scale=0.02)
        refs.append(adapter_ref(path))
    return refs


def measure(contenders: dict[str, Callable[[], float]], rounds: int, console: Console) -> dict[str, list[float]]:
    """Run every contender once to warm up, then interleaved; returns output tokens a second, round by round."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            rate = REQUESTS * OUTPUT_TOKENS / run()
            if number:
                rates[name].append(rate)
            console.print(f"round {number}{'' if number else ' (warm-up)'}: {name} {rate:.1f} tok/s")
    return rates


def main() -> None:
    """Measure and print a table and the JSON line."""
    parser = argparse.ArgumentParser(description="Throughput of mixed adapters beside transformers' static batch.")
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    console = Console(stderr=True)
    base = resolve_base(arguments.base)
    engine = build_engine(base, Settings(base=arguments.base))
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    prompts = [random_prompt(PROMPT_TOKENS, base.shape.vocab_size, seed) for seed in range(REQUESTS)]
    with tempfile.TemporaryDirectory() as folder:
        refs = make_adapters(base, Path(folder), max(DISTINCT))
        contenders: dict[str, Callable[[], float]] = {"transformers": partial(run_transformers, model, prompts)}
        for count in DISTINCT:
            contenders[f"ours{count}"] = partial(run_ours, engine, prompts, refs[:count])
        rates = measure(contenders, arguments.rounds, console)
    engine.close()
    report(rates, console)


def report(rates: dict[str, list[float]], console: Console) -> None:
    """Print the table and the JSON line."""
    medians = {name: statistics.median(values) for name, values in rates.items()}
    table = Table("engine", "output tok/s (median)", "lowest", "highest", "over transformers", "over ours0")
    for name, median in medians.items():
        ratios = (median / medians["transformers"], median / medians["ours0"])
        spread = (min(rates[name]), max(rates[name]))
        table.add_row(name, *(f"{value:.1f}" for value in (median, *spread)), *(f"{ratio:.2f}" for ratio in ratios))
    console.print(table)
    figures = {f"{name}_tok_s": round(median, 1) for name, median in medians.items()}
    figures["ours0_over_hf"] = round(medians["ours0"] / medians["transformers"], 3)
    figures["ours16_over_ours0"] = round(medians["ours16"] / medians["ours0"], 3)
    print(json.dumps({"throughput": figures, "machine": describe_machine()}))


if __name__ == "__main__":
    main()
