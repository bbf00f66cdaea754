"""`python -m headmix_adapters.convert`: one conversion, requested on standard input by `isolated`.

Torch is loaded after the limits are in place.
"""

import errno
import sys
import tempfile
import threading
from pathlib import Path

import msgspec

from headmix_adapters.convert.confinement import confine, exit_with_parent
from headmix_adapters.convert.isolated import REFUSED, ConversionRequest, decode_request

_NO_MEMORY = "allocate memory"
"""Part of the RuntimeError message that torch raises where Python would raise MemoryError."""


def main() -> None:
    """Convert, or print the reasons for the refusal and exit with `REFUSED`."""
    request = decode_request(sys.stdin.buffer.readline())
    mapped = sum(path.stat().st_size for path in Path(request.base_folder).glob("*.safetensors"))
    confine(request.limits, mapped_bytes=mapped)
    threading.Thread(target=exit_with_parent, args=(sys.stdin.fileno(),), name="parent-watch", daemon=True).start()
    try:
        _convert(request)
    except MemoryError:
        _refuse_memory(request)
    except RuntimeError as error:
        if _NO_MEMORY not in str(error):
            raise
        _refuse_memory(request)
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        _refuse([f"file: what it is converted to is larger than {request.limits.file_mib} MiB"])


def _convert(request: ConversionRequest) -> None:
    import torch

    from headmix_adapters.artifact import ArtifactError
    from headmix_adapters.base import BaseError, ResolvedBase
    from headmix_adapters.convert.errors import ConvertError
    from headmix_adapters.convert.peft.config import FILE
    from headmix_adapters.convert.peft.heads.heads import HeadWish
    from headmix_adapters.convert.peft.lora import WEIGHTS, convert_peft_lora
    from headmix_adapters.convert.result import save_converted
    from headmix_adapters.convert.tokenizer_check import check_tokenizer

    torch.set_num_threads(1)  # leaves the cores to the engine
    base = ResolvedBase(request.base.name, Path(request.base_folder), request.base)
    try:
        if not request.allow_base_mismatch:
            check_tokenizer(base)
        with tempfile.TemporaryDirectory(dir=Path(request.out).parent) as folder:
            (Path(folder) / FILE).write_text(request.config, encoding="utf-8")
            (Path(folder) / WEIGHTS).symlink_to(Path(request.weights).resolve())
            converted = convert_peft_lora(Path(folder), base, HeadWish(request.labels, request.problem))
            save_converted(converted, Path(request.out))
    except ArtifactError as error:
        _refuse([str(fault) for fault in error.faults])
    except (ConvertError, BaseError) as error:
        _refuse([str(error)])


def _refuse_memory(request: ConversionRequest) -> None:
    _refuse([f"file: converting it takes more than {request.limits.memory_mib} MiB of memory"])


def _refuse(faults: list[str]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(faults))
    sys.stdout.flush()
    sys.exit(REFUSED)


if __name__ == "__main__":
    main()
