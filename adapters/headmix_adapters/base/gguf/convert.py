"""GGUF to a safetensors model folder: `python -m headmix_adapters.base.gguf.convert GGUF OUT`.

Owns the conversion, which runs in its own process because it loads torch and transformers. The folder appears under
its name only when it is complete and on disk; of several concurrent converters one works and the others wait for it.
The process exits when its standard input is closed, so that it does not outlive its parent.
"""

import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from filelock import FileLock

from headmix_adapters.artifact.durable import sync_path
from headmix_adapters.base.gguf.conversion_progress import ConversionProgress, encode_progress, progress_of
from headmix_adapters.base.gguf.fields import read_field
from headmix_adapters.machine.cpus import read_cpu_budget

if TYPE_CHECKING:
    from gguf import GGUFReader
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# GGUF names the rule that splits text before BPE; transformers ignores it. These names mean one token per digit.
DIGIT_SPLITTING = frozenset({"smollm", "starcoder", "refact", "command-r"})

END_OF_TURN: Mapping[str, str] = MappingProxyType({"gemma3": "<end_of_turn>"})
"""The token that ends a turn, by architecture, where files need not name it; llama.cpp knows it by its text."""

ORPHANED = 5

OnProgress = Callable[[ConversionProgress], None]


def convert(gguf: Path, out: Path, on_progress: OnProgress = lambda _: None) -> None:
    """Write `out` from a GGUF file: config.json, generation_config.json, float32 model.safetensors, the tokenizer.

    Does nothing if `out` exists.

    Raises:
        OSError, ValueError: the file is not readable, or its conversion would not be the same model.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(out.with_name(f".{out.name}.lock")):
        if out.exists():
            return
        temporary = out.with_name(f".{out.name}.tmp")
        # While we hold the lock, a folder of this name can only be what a killed converter left behind.
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir()
            _write_folder(gguf, temporary, on_progress)
            for path in (*temporary.iterdir(), temporary):
                sync_path(path)
            temporary.rename(out)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_path(out.parent)


def _write_folder(gguf: Path, folder: Path, on_progress: OnProgress) -> None:
    def reached(stage: str, part: float = 0.0) -> None:
        on_progress(progress_of(gguf.name, stage, part))

    reached("starting")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from headmix_adapters.base.gguf.library import opened_once
    from headmix_adapters.base.gguf.limits import refuse_lossy

    reached("reading the file")
    with opened_once(gguf, lambda part: reached("dequantizing the weights", part)) as reader:
        refuse_lossy(reader)
        source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
        reached("converting the tokenizer")
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(**source)
        ends = _end_tokens(reader, tokenizer)
    reached("writing the folder")
    _save_model(model, folder, ends)
    _save_tokenizer(tokenizer, reader, folder, getattr(model.config, "max_position_embeddings", None))


def _end_tokens(reader: "GGUFReader", tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Return the ids that end a generation: the end of a text, and that of a turn where the file has one."""
    named = [read_field(reader, f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot")]
    turn = END_OF_TURN.get(str(read_field(reader, "general.architecture")))
    named += [] if turn is None else [tokenizer.get_vocab().get(turn)]
    return list(dict.fromkeys(token for token in named if isinstance(token, int)))


def _save_model(model: "PreTrainedModel", folder: Path, ends: list[int]) -> None:
    from safetensors.torch import save_file

    # Left in, it would make transformers treat the float32 copy as quantised, and refuse to save it.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    if model.generation_config is not None:
        if len(ends) > 1:
            model.generation_config.eos_token_id = ends
        model.generation_config.save_pretrained(folder)
    weights = folder / "model.safetensors"
    save_file(_untied(model.state_dict()), weights, metadata={"format": "pt"})
    # The library creates it for the owner alone; give the weights the permissions of the config.
    weights.chmod((folder / "config.json").stat().st_mode)


def _untied(state: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """Return every tensor once: of tensors that share memory (a tied head), keep the first name."""
    unique: dict[int, str] = {}
    for name, tensor in state.items():
        unique.setdefault(tensor.data_ptr(), name)
    return {name: state[name].contiguous() for name in unique.values()}


def _save_tokenizer(
    tokenizer: "PreTrainedTokenizerBase", reader: "GGUFReader", folder: Path, max_length: int | None
) -> None:
    if max_length is not None:
        tokenizer.model_max_length = max_length
    tokenizer.save_pretrained(folder)
    if read_field(reader, "tokenizer.ggml.pre") in DIGIT_SPLITTING:
        path = folder / "tokenizer.json"
        description = json.loads(path.read_text(encoding="utf-8"))
        description["pre_tokenizer"] = {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, description["pre_tokenizer"]],
        }
        path.write_text(json.dumps(description, ensure_ascii=False), encoding="utf-8")


def main() -> None:
    """Run the conversion given by the two command-line arguments."""
    if len(sys.argv) != 3:
        sys.exit("usage: python -m headmix_adapters.base.gguf.convert GGUF OUT")
    threading.Thread(target=_exit_with_parent, name="parent-watch", daemon=True).start()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from headmix_adapters.machine.threads import limit_threads

    limit_threads(read_cpu_budget())
    convert(Path(sys.argv[1]), Path(sys.argv[2]), lambda progress: print(encode_progress(progress), flush=True))


def _exit_with_parent() -> None:
    """Read standard input to its end, which comes when the process waiting for the conversion is gone, then exit."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(ORPHANED)


if __name__ == "__main__":
    main()
