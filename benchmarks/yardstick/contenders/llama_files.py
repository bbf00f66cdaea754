"""The files that llama.cpp reads, made by its own programs: a base in another format, a PEFT LoRA as GGUF."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from benchmarks.yardstick.contenders.llama_server import FOLDER, NOT_BUILT

Format = Literal["Q4_1", "F32", "BF16", "Q8_0"]

QUANTIZE = FOLDER / "build/bin/llama-quantize"
CONVERT_LORA = FOLDER / "llama.cpp/convert_lora_to_gguf.py"
_RUN_EACH = """
import runpy, sys
script, base, *pairs = sys.argv[1:]
sys.path.insert(0, script.rsplit("/", 1)[0])
for lora, target in zip(pairs[::2], pairs[1::2]):
    sys.argv = [script, "--base", base, "--outfile", target, "--outtype", "bf16", lora]
    runpy.run_path(script, run_name="__main__")
"""
"""The script's imports take longer than a conversion, so one process makes all files."""


def base_file(gguf: Path | None, kind: Format, folder: Path) -> Path:
    """Return the base in a format: the GGUF file itself for Q4_1, else llama-quantize's output.

    Raises:
        RuntimeError: llama.cpp is not built, cannot convert the file, or the base does not come from a GGUF file.
    """
    if gguf is None:
        raise RuntimeError("the base has no GGUF file")
    if kind in gguf.name:
        return gguf
    target = folder / f"{kind}.gguf"
    if not target.exists():
        _run([str(QUANTIZE), "--allow-requantize", str(gguf), str(target), kind], program=QUANTIZE)
    return target


def lora_files(loras: Sequence[Path], base: Path, folder: Path) -> list[Path]:
    """Return PEFT LoRA folders as GGUF files, made by llama.cpp's script; `base` is the base's folder.

    Raises:
        RuntimeError: llama.cpp's source is missing, or its script fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    targets = [folder / f"{lora.name}.gguf" for lora in loras]
    pairs = [str(path) for pair in zip(loras, targets, strict=True) for path in pair]
    if not all(target.exists() for target in targets):
        _run([sys.executable, "-c", _RUN_EACH, str(CONVERT_LORA), str(base), *pairs], program=CONVERT_LORA)
    return targets


def _run(command: list[str], *, program: Path) -> None:
    if not program.exists():
        raise RuntimeError(NOT_BUILT)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"{program.name} failed:\n{(done.stdout + done.stderr)[-2000:]}")
