"""Copies an artifact with a changed description: the tensor bytes, and so its results, stay; the digest changes.

Does not need torch. Everything in the config that determines the tensors must stay as it is.
"""

import json
from pathlib import Path

import msgspec

from headmix_adapters.artifact.checks.rules import check_meaning
from headmix_adapters.artifact.digest import digest_bytes
from headmix_adapters.artifact.durable import write_durably
from headmix_adapters.artifact.faults import FaultList
from headmix_adapters.artifact.header import LENGTH_BYTES, METADATA_ENTRY
from headmix_adapters.artifact.limits import Limits
from headmix_adapters.artifact.open import open_artifact
from headmix_adapters.config import METADATA_KEY, AdapterConfig, ExamplePrompt, encode_config

ALIGNMENT = 8
"""The format's header ends at a multiple of this, padded with spaces."""


def with_examples(path: Path, out: Path, examples: tuple[ExamplePrompt, ...]) -> str:
    """Write a copy of the artifact at `path` with these examples to `out`, whole or not at all; return its digest.

    Raises:
        ArtifactError: the file is not an artifact, or the examples break a rule; nothing is written.
        OSError: a file cannot be read or written.
    """
    config = msgspec.structs.replace(open_artifact(path).config, examples=examples)
    faults = FaultList()
    check_meaning(config, Limits(), faults)
    faults.raise_if_any()
    data = _with_config(path.read_bytes(), config)
    if len(data) > Limits().max_bytes:
        faults.add(f"the file would be {len(data)} bytes long, more than the limit of {Limits().max_bytes}")
        faults.raise_if_any()
    write_durably(out, data)
    return digest_bytes(data)


def _with_config(content: bytes, config: AdapterConfig) -> bytes:
    """Return the file's bytes with another config; tensor offsets stay valid, as they count from the header's end."""
    length = int.from_bytes(content[:LENGTH_BYTES], "little")
    index = json.loads(content[LENGTH_BYTES : LENGTH_BYTES + length])
    index[METADATA_ENTRY] = {METADATA_KEY: encode_config(config)}
    header = json.dumps(index, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-(LENGTH_BYTES + len(header)) % ALIGNMENT)
    return len(header).to_bytes(LENGTH_BYTES, "little") + header + content[LENGTH_BYTES + length :]
