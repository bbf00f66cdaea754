"""What a GGUF file may contain for its conversion to be the same model.

transformers reads more architectures than headmix serves, and drops what it does not know in a file: scaled rotary
frequencies and experts would be lost silently, and a Gemma 3 of another shape would get the usual one's numbers. Such
files are refused here.
"""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from gguf import GGUFReader

from headmix_adapters.base.gguf.fields import read_field
from headmix_adapters.families import FAMILIES

ARCHITECTURES = frozenset(family.gguf for family in FAMILIES.values() if family.gguf is not None)
SCALED_FREQUENCIES = ("rope_freqs", "rope_factors")
NONE = (None, 0)

ASSUMED: Mapping[str, Mapping[str, Sequence[object]]] = MappingProxyType(
    {
        # The 27B has heads of 128, whose scores are scaled by another number, which no field of the file contains.
        "gemma3": {
            "attention.key_length": (256,),
            "attention.value_length": (None, 256),
            "attention.sliding_window_pattern": (None, 6),
            "rope.freq_base_swa": (None, 10_000),
            "attn_logit_softcapping": NONE,
            "final_logit_softcapping": NONE,
        }
    }
)
"""The fields that transformers does not read, by architecture, and the values it assumes; None: the field is absent."""

STATED: Mapping[str, Collection[str]] = MappingProxyType({"gemma3": ("attention.sliding_window",)})
"""The fields without which transformers assumes a number of its own."""


def refuse_lossy(reader: GGUFReader) -> None:
    """Check that the conversion loses nothing.

    Raises:
        ValueError: it would lose something; the message says what.
    """
    architecture = read_field(reader, "general.architecture")
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"GGUF files of architecture {architecture!r} are not converted, only {', '.join(sorted(ARCHITECTURES))}: "
            "use the model's safetensors folder"
        )
    scaling = read_field(reader, f"{architecture}.rope.scaling.type")
    if scaling not in (None, "none") or any(t.name.startswith(SCALED_FREQUENCIES) for t in reader.tensors):
        raise ValueError("its rotary frequencies are scaled, which the conversion loses: use the safetensors folder")
    if read_field(reader, f"{architecture}.expert_count"):
        raise ValueError("it is a mixture of experts, which is not served")
    head, rotated = (
        read_field(reader, f"{architecture}.{key}") for key in ("attention.key_length", "rope.dimension_count")
    )
    if None not in (head, rotated) and head != rotated:
        raise ValueError(f"{rotated} of {head} dimensions of a head are rotated; whole heads are served")
    _refuse_assumptions(reader, str(architecture))


def _refuse_assumptions(reader: GGUFReader, architecture: str) -> None:
    for key in STATED.get(architecture, ()):
        if read_field(reader, f"{architecture}.{key}") is None:
            raise ValueError(f"it lacks {architecture}.{key}: use the safetensors folder")
    for key, values in ASSUMED.get(architecture, {}).items():
        found = read_field(reader, f"{architecture}.{key}")
        if found not in values:
            name = f"{architecture}.{key}"
            raise ValueError(f"its {name} is {found}, the conversion assumes {values[-1]}: use the safetensors folder")
