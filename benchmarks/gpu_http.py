"""A server over HTTP on a GPU: `python -m benchmarks.gpu_http`; the last line is JSON.

A base of random weights in Llama's 1B shape with a vocabulary of 49,152 tokens, 32 adapters of the preset, and streams
over loopback whose prompts of 64 tokens are all sent at once. The time to first token is the streams' median; a step's
time is that from the last first token to the last token, divided by the steps in between.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import tokenizers
import torch
from safetensors.torch import save_file

from benchmarks.cuda import LLAMA, SHAPES
from benchmarks.yardstick.contenders.over_http import completion_body, stream_all
from harness.adapters.shelf import Shelf
from harness.machine import describe_machine
from harness.server.running_server import RunningServer, running_server
from headmix_adapters.base import resolve_base

VOCABULARY = 49_152
ADAPTERS = 32
PROMPT_TOKENS = 64
TOKENS = 192
PLAIN_ROWS = (1, 8, 32, 64, 128)
SAMPLED = {"temperature": 0.8, "top_p": 0.95, "top_k": 50}
SCORED = {"frequency_penalty": 0.5, "logprobs": 5}


@dataclass(frozen=True, slots=True)
class Load:
    """Streams that are sent at once; `fields` are additional fields of each request."""

    name: str
    rows: int
    adapters: bool
    fields: dict[str, float]
    tokens: int = TOKENS


LOADS = (
    *(Load(f"greedy {rows}", rows, False, {}) for rows in PLAIN_ROWS),
    *(Load(f"greedy {rows}, adapters", rows, True, {}) for rows in PLAIN_ROWS),
    Load("sampled 1, adapters", 1, True, SAMPLED),
    Load("sampled 32, adapters", 32, True, SAMPLED),
    Load("temperature 1, 32, adapters", 32, True, {"temperature": 1.0}),
    Load("penalties and log-probabilities 32, adapters", 32, True, SCORED, tokens=64),
)


def write_base(folder: Path, device: str) -> Path:
    """Write random weights in bfloat16, under transformers' names, and a byte-level tokenizer."""
    folder.mkdir(parents=True)
    config = LLAMA | SHAPES["1b"] | {"vocab_size": VOCABULARY, "architectures": ["LlamaForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    groups = config["num_key_value_heads"] * config["head_dim"]
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens": (VOCABULARY, hidden), "norm": (hidden,)}
    for layer in range(layers):
        each = {
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
            "self_attn.q_proj": (hidden, hidden),
            "self_attn.k_proj": (groups, hidden),
            "self_attn.v_proj": (groups, hidden),
            "self_attn.o_proj": (hidden, hidden),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }
        shapes |= {f"layers.{layer}.{name}": shape for name, shape in each.items()}
    weights = {
        f"model.{name}.weight": torch.empty(shape, dtype=torch.bfloat16, device=device).normal_(std=0.02).cpu()
        for name, shape in shapes.items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def _tokenizer() -> tokenizers.Tokenizer:
    """Make a byte-level vocabulary of the right size; its longer tokens appear only in the model's output."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = (f"Ġ{a}{b}{c}{d}" for a in letters for b in letters for c in letters for d in letters)
    pieces = [*alphabet, *(next(words) for _ in range(VOCABULARY - len(alphabet)))]
    model = tokenizers.models.BPE({piece: number for number, piece in enumerate(pieces)}, [])
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    return made


def measure(server: RunningServer, load: Load, names: Sequence[str]) -> dict[str, float]:
    """Send a load twice, first a short one as warm-up; return its throughput and its step time."""
    prompts = [[(7 * row + at) % (VOCABULARY - 1000) + 300 for at in range(PROMPT_TOKENS)] for row in range(load.rows)]
    models = [names[row % len(names)] for row in range(load.rows)]

    def bodies(tokens: int) -> list[bytes]:
        pairs = zip(models, prompts, strict=True)
        return [completion_body(model, prompt, tokens, **load.fields) for model, prompt in pairs]

    stream_all(server.base_url, server.key, bodies(8))
    began = time.perf_counter()
    seconds, replies = stream_all(server.base_url, server.key, bodies(load.tokens))
    first, last = max(reply.times[0] for reply in replies), max(reply.times[-1] for reply in replies)
    return {
        "tokens_per_second": sum(reply.completion_tokens for reply in replies) / seconds,
        "first_token_ms": (statistics.median(reply.times[0] for reply in replies) - began) * 1e3,
        "step_ms": (last - first) / (load.tokens - 1) * 1e3,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.gpu_http")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--load", action="append", help="only loads whose name holds this")
    arguments = parser.parse_args()
    results: dict[str, Any] = dict(describe_machine())
    if arguments.device == "cuda":
        results["gpu"] = torch.cuda.get_device_name()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        base = write_base(root / "base", arguments.device)
        names = Shelf(resolve_base(str(base)), root / "shelf").copy_preset(ADAPTERS, root / "preload")
        began = time.monotonic()
        settings: dict[str, Any] = {"preload": root / "preload", "device": arguments.device, "max_running": 128}
        with running_server(root, base=base, runner="torch", dtype="bfloat16", **settings) as server:
            results["start_seconds"] = time.monotonic() - began
            print(f"ready after {results['start_seconds']:.1f} s", flush=True)
            listed = httpx2.get(f"{server.base_url}/v1/models", headers=server.headers).json()["data"]
            plain = [each["id"] for each in listed if each["id"] not in names]
            for load in LOADS:
                if not arguments.load or any(part in load.name for part in arguments.load):
                    figures = measure(server, load, names if load.adapters else plain)
                    results[load.name] = figures
                    throughput, step = figures["tokens_per_second"], figures["step_ms"]
                    first = figures["first_token_ms"]
                    line = f"{load.name:48}{throughput:9.0f} tokens/s{first:9.1f} ms to a first token{step:9.2f} a step"
                    print(line, flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
