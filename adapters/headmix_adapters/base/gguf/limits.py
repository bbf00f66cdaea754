"""What a GGUF file may contain for its conversion to be the same model.

transformers reads more architectures than headmix serves, and drops what it does not know in a Llama's file: scaled
rotary frequencies and experts would be lost silently. Such files are refused here.
"""

from gguf import GGUFReader

from headmix_adapters.families import FAMILIES

ARCHITECTURES = frozenset(family.gguf for family in FAMILIES.values() if family.gguf is not None)
SCALED_FREQUENCIES = ("rope_freqs", "rope_factors")


def refuse_lossy(reader: GGUFReader) -> None:
    """Check that the conversion loses nothing.

    Raises:
        ValueError: it would lose something; the message says what.
    """
    architecture = _field(reader, "general.architecture")
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"GGUF files of architecture {architecture!r} are not converted, only {', '.join(sorted(ARCHITECTURES))}: "
            "use the model's safetensors folder"
        )
    scaling = _field(reader, f"{architecture}.rope.scaling.type")
    if scaling not in (None, "none") or any(t.name.startswith(SCALED_FREQUENCIES) for t in reader.tensors):
        raise ValueError("its rotary frequencies are scaled, which the conversion loses: use the safetensors folder")
    if _field(reader, f"{architecture}.expert_count"):
        raise ValueError("it is a mixture of experts, which is not served")
    head, rotated = (
        _field(reader, f"{architecture}.{key}") for key in ("attention.key_length", "rope.dimension_count")
    )
    if None not in (head, rotated) and head != rotated:
        raise ValueError(f"{rotated} of {head} dimensions of a head are rotated; whole heads are served")


def _field(reader: GGUFReader, name: str) -> object:
    field = reader.get_field(name)
    return None if field is None else field.contents()
