"""What this processor supports, and the levels that kernels are compiled for ahead of time.

A level is named after x86-64's, plus any features beyond it, and lists the features it requires as Linux names them.
Knows nothing of building or loading.
"""

from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

_V2 = frozenset(["cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"])
_V3 = _V2 | frozenset(["abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"])
_V4 = _V3 | frozenset(["avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"])


@dataclass(frozen=True, slots=True)
class Level:
    """The features that a library requires, and the compiler's flags for it."""

    name: str
    features: frozenset[str]
    flags: tuple[str, ...]

    @property
    def library(self) -> str:
        """The file name of the library for this level."""
        return f"headmix-{self.name}.so"


LEVELS = (
    # AMX is not one of the level's features: kernels ask the system for its registers before using them.
    Level(
        "x86-64-v4-vnni",
        _V4 | {"avx512_vnni"},
        ("-march=x86-64-v4", "-mavx512vnni", "-mamx-tile", "-mamx-int8"),
    ),
    Level("x86-64-v4", _V4, ("-march=x86-64-v4",)),
    Level("x86-64-v3", _V3, ("-march=x86-64-v3",)),
)
"""Best first. The sources use nothing beyond them: a test compares their `#if`s with the levels."""

HERE = Level("native", frozenset(), ("-march=native",))
"""This processor, whatever it is, as detected by the compiler."""


def processor_features() -> frozenset[str]:
    """Return the instruction sets that programs may use, as the kernel names them; none if the system lists none."""
    try:
        lines = CPUINFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    listed = (line.partition(":")[2] for line in lines if line.lower().startswith(("flags", "features")))
    return frozenset(next(listed, "").split())


def best_library(folder: Path, features: frozenset[str]) -> Path | None:
    """Return the folder's library for the best level that these features allow, or None."""
    for level in LEVELS:
        library = folder / level.library
        if level.features <= features and library.is_file():
            return library
    return None
