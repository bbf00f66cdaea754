"""How much a base in bfloat16 or int8 loses: its perplexity on a real text relative to float32's, each as served.

The text is the King James answers of the `kingjames` example, which the example's evaluation also scores. The engine
itself scores it: prompts with log-probabilities, as with `echo` in a completion. The last line is JSON.
"""

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.machine import describe_machine
from headmix_adapters.base import ResolvedBase, resolve_base
from headmix_server.core.messages import Generate, TokenOutput
from headmix_server.core.settings.settings import Settings
from headmix_server.core.types import SamplingParams
from headmix_server.engine.loop import Engine
from headmix_server.llm.session import build_engine
from headmix_server.text.tokenizer import load_tokenizer

TEXT = Path(__file__).parents[1] / "examples" / "data" / "kingjames.eval.jsonl"
CHUNK_TOKENS = 512
CHUNKS = 12
FORMS: Mapping[str, Mapping[str, Any]] = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "int8": {"quantize": "int8"},
}


def read_chunks(base: ResolvedBase, count: int = CHUNKS) -> list[list[int]]:
    """Return the text as token ids, in chunks of equal length."""
    rows = [json.loads(line) for line in TEXT.read_text(encoding="utf-8").splitlines()]
    text = " ".join(row["messages"][-1]["content"] for row in rows)
    ids = load_tokenizer(base.folder).encode(text)
    starts = range(0, min(count * CHUNK_TOKENS, len(ids) - CHUNK_TOKENS + 1), CHUNK_TOKENS)
    return [ids[start : start + CHUNK_TOKENS] for start in starts]


def perplexity(engine: Engine, chunks: list[list[int]]) -> float:
    """Return the engine's perplexity on the chunks, each scored separately."""
    sampling = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=True, logprobs=0, ignore_eos=True)
    for index, chunk in enumerate(chunks):
        engine.submit(Generate(request_id=str(index), tenant="default", prompt=chunk, adapter=None, sampling=sampling))
    scores: list[float] = []
    while not engine.idle:
        for output in engine.step():
            if not isinstance(output, TokenOutput):
                raise TypeError(f"unexpected output: {output}")
            scores.extend(entry.logprob for entry in output.prompt_logprobs or ())
    expected = sum(len(chunk) - 1 for chunk in chunks)
    if len(scores) != expected:
        raise RuntimeError(f"{len(scores)} tokens were scored, not {expected}")
    return math.exp(-sum(scores) / expected)


def main() -> None:
    """Measure all and print the JSON line."""
    parser = argparse.ArgumentParser(description="Perplexity of the base in bfloat16 and int8 over float32.")
    parser.add_argument("--base", default="smollm2-135m-instruct")
    base = resolve_base(parser.parse_args().base)
    chunks = read_chunks(base)
    figures: dict[str, float] = {}
    for name, settings in FORMS.items():
        engine = build_engine(base, Settings(base=base.name, device="cpu", **settings))
        figures[f"{name}_ppl"] = perplexity(engine, chunks)
        engine.close()
    for name in FORMS.keys() - {"float32"}:
        figures[f"{name}_ppl_ratio"] = figures[f"{name}_ppl"] / figures["float32_ppl"]
    line = {name: round(value, 4) for name, value in sorted(figures.items())}
    print(json.dumps({**line, "machine": describe_machine()}))


if __name__ == "__main__":
    main()
