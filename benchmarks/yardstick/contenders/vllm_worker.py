"""vLLM's side of the comparison: runs in vLLM's own environment, so it imports nothing from this repository.

Reads one JSON object per line from standard input, `{"prompts": [[ids]], "max_tokens": n, "loras": [folder or null],
"sampling": {fields of SamplingParams}}`, and answers each with one line on the given file descriptor, `{"seconds": s,
"tokens": [counts]}`; writes `{}` once it is ready.
"""

import argparse
import json
import os
import sys
import time
from typing import Any


def main() -> None:
    """Load the model, report that it is ready, and answer until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--reply", type=int, required=True)
    parser.add_argument("--max-model-len", type=int, required=True)
    parser.add_argument("--max-loras", type=int, default=0)
    parser.add_argument("--max-lora-rank", type=int, default=16)
    options = parser.parse_args()
    from vllm import LLM  # type: ignore[import-not-found,unused-ignore]

    loras = {"enable_lora": True, "max_loras": options.max_loras, "max_lora_rank": options.max_lora_rank}
    engine = LLM(
        model=options.model,
        dtype=options.dtype,
        max_model_len=options.max_model_len,
        **(loras if options.max_loras else {}),
    )
    with os.fdopen(options.reply, "w", encoding="utf-8") as replies:
        _say(replies, {})
        for line in sys.stdin:
            _say(replies, _answer(engine, json.loads(line)))


def _answer(engine: Any, order: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - vLLM is not installed where this is checked
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest  # type: ignore[import-not-found,unused-ignore]

    fields = {"temperature": 0, **order["sampling"]}  # no seed: vLLM samples rows that have a seed one by one
    sampling = SamplingParams(max_tokens=order["max_tokens"], ignore_eos=True, **fields)
    prompts = [{"prompt_token_ids": prompt} for prompt in order["prompts"]]
    numbers = {folder: number for number, folder in enumerate(dict.fromkeys(order["loras"]), start=1) if folder}
    loras = [LoRARequest(folder, numbers[folder], folder) if folder else None for folder in order["loras"]]
    began = time.perf_counter()
    outputs = engine.generate(prompts, sampling, lora_request=loras, use_tqdm=False)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "tokens": [len(output.outputs[0].token_ids) for output in outputs]}


def _say(replies: Any, message: dict[str, Any]) -> None:  # noqa: ANN401 - any text file
    replies.write(json.dumps(message) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
