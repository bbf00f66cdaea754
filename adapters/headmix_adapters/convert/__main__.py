"""`python -m headmix_adapters.convert`: one conversion, asked for on standard input by `isolated`."""

import sys
import tempfile
from pathlib import Path

import msgspec

from headmix_adapters.artifact import ArtifactError
from headmix_adapters.base import BaseError, ResolvedBase
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.heads import HeadWish
from headmix_adapters.convert.isolated import REFUSED, ConversionRequest
from headmix_adapters.convert.peft_config import FILE
from headmix_adapters.convert.peft_lora import WEIGHTS, convert_peft_lora
from headmix_adapters.convert.result import save_converted
from headmix_adapters.convert.tokenizer_check import check_tokenizer
from headmix_adapters.cpus import read_cpu_budget
from headmix_adapters.threads import limit_threads


def main() -> None:
    """Convert, or print why not and exit with `REFUSED`."""
    limit_threads(read_cpu_budget())
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=ConversionRequest)
    base = ResolvedBase(request.base.name, Path(request.base_folder), request.base)
    try:
        if not request.allow_base_mismatch:
            check_tokenizer(base)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / FILE).write_text(request.config, encoding="utf-8")
            (Path(folder) / WEIGHTS).symlink_to(Path(request.weights).resolve())
            converted = convert_peft_lora(Path(folder), base, HeadWish(request.labels, request.problem))
            save_converted(converted, Path(request.out))
    except ArtifactError as error:
        _refuse([str(fault) for fault in error.faults])
    except (ConvertError, BaseError) as error:
        _refuse([str(error)])


def _refuse(faults: list[str]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(faults))
    sys.exit(REFUSED)


if __name__ == "__main__":
    main()
