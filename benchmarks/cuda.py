"""A decode step on a GPU next to its floor and next to PEFT: random weights in Llama's shapes of 1B and 7B parameters.

    python -m benchmarks.cuda [--shape 1b --shape 7b] [--skip-peft]

Prints a table, and one line of JSON last. A step is a captured graph of the base with the preset's adapters on every
row, the head and the choice of the most probable token. The floor is what the step must read once (weights, cached keys
and values, the adapters' images) over the bandwidth a copy reaches on the same machine.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from harness.machine import describe_machine
from headmix_adapters.artifact.parse import read_stored
from headmix_adapters.config import AdapterConfig, BaseShape, encode_config
from headmix_adapters.presets import Ranks, kernel_mix_sites
from headmix_adapters.sites import tensor_shapes
from headmix_server.device.adapters.adapter_image import AdapterImage, make_image
from headmix_server.device.cuda.build import make_cuda_decode, make_cuda_storage
from headmix_server.device.cuda.fixed_storage import FixedStorage
from headmix_server.device.cuda.static_decode import StaticDecode
from headmix_server.device.cuda.static_step import DecodeRow
from headmix_server.device.kv_memory import KVMemory, block_bytes
from headmix_server.device.placement import Placement, choose_placement
from headmix_server.kernels.row_ops import choose_row_ops
from headmix_server.models.families import llama
from headmix_server.models.formats.linear_format import PLAIN
from headmix_server.models.loading.config_reader import ConfigReader
from headmix_server.models.loading.weights import Checkpoint
from headmix_server.models.model import Model

PRESET = Ranks(q=3, v=8, q_shared=12, v_shared=8)
BATCHES = (1, 2, 4, 8, 16, 32)
DISTINCT = 32
CONTEXT = 128
BLOCK = 16
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 2048,
    "eos_token_id": 2,
}
SHAPES: dict[str, dict[str, Any]] = {
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 128256,
        "tie_word_embeddings": True,
    },
    "7b": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "vocab_size": 32000,
        "tie_word_embeddings": False,
    },
}


class RandomCheckpoint(Checkpoint):
    """Returns random numbers of any requested shape, generated on the device."""

    def __init__(self, placement: Placement) -> None:
        self.dtype, self.device, self.form = placement.dtype, placement.device, PLAIN
        self.row_ops = choose_row_ops(placement.device, placement.dtype)
        self.parameters = 0
        self._tensors = {}
        self._generator = torch.Generator(placement.device).manual_seed(0)

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """See `Checkpoint`."""
        del name
        self.parameters += torch.Size(shape).numel()
        drawn = torch.empty(shape, dtype=self.dtype, device=self.device).normal_(generator=self._generator)
        return drawn.mul_(0.02)


@dataclass(frozen=True, slots=True)
class Subject:
    """A base of random weights with its slots and captured steps."""

    model: Model
    storage: FixedStorage
    decode: StaticDecode
    weight_bytes: int
    adapter_bytes: int
    cache_bytes: int  # per row's context


@dataclass(frozen=True, slots=True)
class Step:
    """One measured decode step. `floor`: the seconds that reading what it needs would take at a copy's bandwidth."""

    shape: str
    rows: int
    adapters: int
    seconds: float
    floor: float

    @property
    def share(self) -> float:
        """The share of the bandwidth that the step uses to read what it must."""
        return self.floor / self.seconds


def base_shape(config: dict[str, Any]) -> BaseShape:
    """Return the dimensions that an adapter for such a base declares."""
    return BaseShape(
        name="random",
        model_type="llama",
        hidden_size=config["hidden_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        num_kv_heads=config["num_key_value_heads"],
        head_dim=config["head_dim"],
        vocab_size=config["vocab_size"],
        fingerprint="sha256:" + "0" * 64,
        intermediate_size=config["intermediate_size"],
    )


def random_image(base: BaseShape) -> AdapterImage:
    """Generate an adapter of the preset; every slot gets its own copy, so that each reads different memory."""
    from safetensors.torch import save

    config = AdapterConfig(method="kernel-mix", task="generation", base=base, sites=kernel_mix_sites(PRESET))
    tensors = {name: torch.randn(shape).mul_(0.01).bfloat16() for name, shape in tensor_shapes(config).items()}
    return make_image(read_stored(bytearray(save(tensors, metadata={"headmix": encode_config(config)}))))


Parts = Callable[[Model, BaseShape, KVMemory, int, Placement], tuple[FixedStorage, StaticDecode]]


def cuda_parts(
    model: Model, base: BaseShape, memory: KVMemory, arena_mib: int, placement: Placement
) -> tuple[FixedStorage, StaticDecode]:
    """Make slots and captured steps as the server does."""
    storage = make_cuda_storage(base, DISTINCT, arena_mib, max(asdict(PRESET).values()), placement)
    return storage, make_cuda_decode(model, storage, memory, -(-LLAMA["max_position_embeddings"] // BLOCK))


def prepare(config: dict[str, Any], placement: Placement, parts: Parts = cuda_parts) -> Subject:
    """Make a base of random weights and fill its slots."""
    checkpoint = RandomCheckpoint(placement)
    with placement.device:
        model = llama.load(ConfigReader(LLAMA | config), lambda prefix: checkpoint)
    base = base_shape(config)
    image = random_image(base)
    arena_mib = -(-DISTINCT * (image.numbers.nbytes * placement.dtype.itemsize // 2 + 4096) // 2**20)
    blocks = -(-CONTEXT // BLOCK)
    memory = KVMemory(model.config, max(BATCHES) * blocks + 1, BLOCK, placement.dtype, placement.device)
    storage, decode = parts(model, base, memory, arena_mib, placement)
    for slot in range(DISTINCT):
        storage.put(slot, storage.stage(image))
    untied = 0 if config["tie_word_embeddings"] else config["vocab_size"] * config["hidden_size"]
    return Subject(
        model,
        storage,
        decode,
        weight_bytes=(checkpoint.parameters - untied) * placement.dtype.itemsize,  # the look-up reads one row per token
        adapter_bytes=image.numbers.numel() * placement.dtype.itemsize,
        cache_bytes=blocks * block_bytes(model.config, BLOCK, placement.dtype),
    )


def rows_of(count: int, adapters: int) -> list[DecodeRow]:
    """Return a batch near the end of its contexts; rows use the slots of the first `adapters` in turn."""
    blocks = -(-CONTEXT // BLOCK)
    return [
        DecodeRow(7 + at, CONTEXT - 1, range(at * blocks, (at + 1) * blocks), at % adapters if adapters else None)
        for at in range(count)
    ]


def seconds_of(work: Callable[[], object], device: torch.device, runs: int = 30, warm_ups: int = 3) -> float:
    """Return the median time of a call, on the device's own clock if it has one."""
    for _ in range(warm_ups):
        work()
    times: list[float] = []
    for _ in range(runs):
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]  # no types
            start.record()
            work()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) / 1000)
        else:
            began = perf_counter()
            work()
            times.append(perf_counter() - began)
    return median(times)


def measured_bandwidth(device: torch.device, size: int = 2**31) -> float:
    """Return the bytes per second that a copy reads and writes."""
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / seconds_of(lambda: target.copy_(source), device, runs=10)


@torch.inference_mode()
def measure_steps(name: str, subject: Subject, bandwidth: float, device: torch.device) -> list[Step]:
    """Measure every batch size with and without adapters, in turn."""
    steps = []
    for count in BATCHES:
        for adapters in (0, min(count, DISTINCT)):
            rows = rows_of(count, adapters)

            def step(rows: Sequence[DecodeRow] = rows) -> Tensor:
                hidden = subject.decode.forward(rows)
                if hidden is None:
                    raise RuntimeError("the batch is larger than any captured step")
                return subject.model.logits(hidden).argmax(dim=-1)

            needed = subject.weight_bytes + count * subject.cache_bytes + adapters * subject.adapter_bytes
            steps.append(Step(name, count, adapters, seconds_of(step, device), needed / bandwidth))
    return steps


@torch.inference_mode()
def measure_peft(config: dict[str, Any], placement: Placement, rows: int = 32, tokens: int = 16) -> float:
    """Return the seconds of a decode step of PEFT's mixed batch, with as many LoRA adapters of equivalent effect."""
    import peft
    from transformers import LlamaConfig, LlamaForCausalLM

    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    ranks = {
        "q_proj": PRESET.q * heads + PRESET.q_shared,
        "v_proj": PRESET.v * groups + PRESET.v_shared,
        "o_proj": PRESET.v * heads + PRESET.v_shared,
    }
    with placement.device:
        model = LlamaForCausalLM(LlamaConfig.from_dict(LLAMA | config))
    lora = peft.LoraConfig(target_modules=list(ranks), rank_pattern=ranks, init_lora_weights=False)
    mixed = peft.get_peft_model(model, lora, adapter_name="0")
    for number in range(1, rows):
        mixed.add_adapter(str(number), lora)
    mixed.to(placement.device, placement.dtype).train(mode=False)
    prompts = torch.full((rows, CONTEXT - tokens), 7, device=placement.device)
    names = [str(number) for number in range(rows)]

    def generate(length: int) -> float:
        return seconds_of(
            lambda: mixed.generate(  # type: ignore[no-untyped-call]  # PEFT has no types here
                input_ids=prompts,
                attention_mask=torch.ones_like(prompts),
                adapter_names=names,
                max_new_tokens=length,
                min_new_tokens=length,
                do_sample=False,
                pad_token_id=0,
            ),
            placement.device,
            runs=3,
            warm_ups=1,
        )

    return (generate(tokens) - generate(1)) / (tokens - 1)


def summarise(steps: Sequence[Step], peft_seconds: float | None) -> dict[str, float]:
    """Return the figures that have goals; see docs/gpu.md."""
    most = max(step.rows for step in steps)
    plain = {step.rows: step for step in steps if not step.adapters}
    mixed = next(step for step in steps if step.rows == most and step.adapters)
    figures = {
        "adapters_over_none": mixed.seconds / plain[most].seconds,
        "adapters_over_none_floor": mixed.floor / plain[most].floor,
        "least_share_of_bandwidth": min(step.share for step in plain.values()),
    }
    if peft_seconds is not None:
        figures["over_peft_mixed"] = peft_seconds / mixed.seconds
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.cuda")
    parser.add_argument("--shape", action="append", choices=sorted(SHAPES))
    parser.add_argument("--skip-peft", action="store_true")
    arguments = parser.parse_args()
    placement = choose_placement("cuda", "bfloat16")
    bandwidth = measured_bandwidth(placement.device)
    results: dict[str, Any] = describe_machine() | {
        "gpu": torch.cuda.get_device_name(placement.device),
        "bandwidth_gb_s": bandwidth / 1e9,
    }
    print(f"copy: {bandwidth / 1e9:.0f} GB/s\n{'base':5}{'rows':>6}{'adapters':>10}{'ms':>9}{'floor':>9}{'share':>7}")
    for name in arguments.shape or sorted(SHAPES):
        subject = prepare(SHAPES[name], placement)
        steps = measure_steps(name, subject, bandwidth, placement.device)
        for step in steps:
            print(
                f"{name:5}{step.rows:>6}{step.adapters:>10}{step.seconds * 1e3:>9.3f}{step.floor * 1e3:>9.3f}"
                f"{step.share:>7.2f}"
            )
        del subject
        torch.cuda.empty_cache()
        peft_seconds = None if arguments.skip_peft else measure_peft(SHAPES[name], placement)
        results[name] = summarise(steps, peft_seconds) | {"steps": [asdict(step) for step in steps]}
        torch.cuda.empty_cache()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
