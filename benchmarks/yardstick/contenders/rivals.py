"""The rivals on transformers: its static batch, its continuous batching, and PEFT's batch of mixed adapters."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from transformers import ContinuousBatchingConfig, GenerationConfig, PreTrainedModel
from transformers.generation.streamers import BaseStreamer

PAGE_SIZE = 32


@torch.inference_mode()
def generate_static(
    model: PreTrainedModel | PeftModel,
    prompts: Sequence[list[int]],
    max_tokens: int,
    *,
    streamer: BaseStreamer | None = None,
    adapter_names: Sequence[str] | None = None,
) -> None:
    """Run `generate` on prompts of one length, so that nothing is padded; greedy, no early stop.

    Raises:
        RuntimeError: a request did not get its tokens.
    """
    inputs = torch.tensor(prompts)
    options = {} if adapter_names is None else {"adapter_names": list(adapter_names)}
    outputs = cast("Any", model).generate(
        input_ids=inputs,
        attention_mask=torch.ones_like(inputs),
        max_new_tokens=max_tokens,
        min_new_tokens=max_tokens,
        do_sample=False,
        streamer=streamer,
        **options,
    )
    if outputs.shape != (len(inputs), inputs.shape[1] + max_tokens):
        raise RuntimeError(f"generate returned {tuple(outputs.shape)}")


def generate_continuous(model: PreTrainedModel, prompts: Sequence[list[int]], max_tokens: int) -> None:
    """Run `generate_batch`, transformers' continuous batching, with a cache that holds all requests at once.

    Its manager is created once and also serves the later rounds.

    Its default cache size, 60 % of the free memory, is unsuitable on a machine that does other work.

    Raises:
        RuntimeError: a request failed or did not get its tokens.
    """
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=max_tokens, do_sample=False, eos_token_id=-1, pad_token_id=0
    )
    pages = -(-(len(prompts[0]) + max_tokens) // PAGE_SIZE)
    outputs = cast("Any", model).generate_batch(
        [list(prompt) for prompt in prompts],
        generation_config=config,
        continuous_batching_config=ContinuousBatchingConfig(
            page_size=PAGE_SIZE, num_blocks=2 * pages * len(prompts), max_batch_tokens=max(512, len(prompts[0]))
        ),
        persistent_manager=True,
    )
    faults = [str(output.error) for output in outputs.values() if output.error is not None]
    short = sum(len(output.generated_tokens) != max_tokens for output in outputs.values())
    if faults or short or len(outputs) != len(prompts):
        raise RuntimeError(faults[0] if faults else f"{len(outputs)} answers to {len(prompts)} requests, {short} short")


def load_peft(model: PreTrainedModel, folders: Sequence[Path]) -> PeftModel:
    """Load exported LoRAs into one PEFT model, named by their index; the given model is changed."""
    peft = PeftModel.from_pretrained(model, str(folders[0]), adapter_name="0")
    for number, folder in enumerate(folders[1:], start=1):
        peft.load_adapter(str(folder), adapter_name=str(number))
    peft.train(mode=False)
    return peft


class Ticker(BaseStreamer):  # type: ignore[no-untyped-call,unused-ignore]
    """Records when each token came; the prompt comes first and is not recorded."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.times: list[float] = []
        self._clock = clock
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        """Receive the tokens that `generate` produced."""
        if self._prompt_seen:
            self.times.append(self._clock())
        self._prompt_seen = True

    def end(self) -> None:
        """Do nothing: only the times matter."""
