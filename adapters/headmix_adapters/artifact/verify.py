"""The full verification of an artifact before anyone can see it: limits, header, config, base, tensors, values.

Owns the order of the checks and nothing else. Never reads pickle, never maps the file, never trusts a size.
"""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from headmix_adapters.artifact.checks.layout import check_layout
from headmix_adapters.artifact.checks.rules import check_base, check_dimensions, check_meaning
from headmix_adapters.artifact.checks.values import check_values
from headmix_adapters.artifact.faults import ArtifactError, ArtifactFault, FaultList, quoted
from headmix_adapters.artifact.limits import Limits
from headmix_adapters.artifact.open import Artifact, artifact_from
from headmix_adapters.config import BaseShape


def _compile(template: str) -> str | None:
    from headmix_adapters.text.chat_template import template_fault

    return template_fault(template)


def verify_artifact(
    path: Path,
    *,
    base: BaseShape | None,
    limits: Limits | None = None,
    allow_base_mismatch: bool = False,
    template_fault: Callable[[str], str | None] = _compile,
) -> Artifact:
    """Read the whole file and return it opened if nothing at all is wrong with it.

    `base` is the model it must fit; None only checks the artifact's own consistency. `allow_base_mismatch` accepts
    a different fingerprint (a quantised base has one), never different dimensions. `template_fault` compiles a chat
    template, which may take a second, and returns why it cannot be.

    Raises:
        ArtifactError: with every fault; a file that is too large or has an invalid header has only that fault.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        artifact = _verify(file, path, base, limits or Limits(), allow_base_mismatch=allow_base_mismatch)
    template = artifact.config.chat_template
    if template and (fault := template_fault(template)) is not None:
        raise ArtifactError([ArtifactFault(None, f"chat_template: {quoted(fault)}")])
    return artifact


def _verify(
    file: BinaryIO, path: Path, base: BaseShape | None, limits: Limits, *, allow_base_mismatch: bool
) -> Artifact:
    size = file.seek(0, 2)
    if size > limits.max_bytes:
        reason = f"the file is {size} bytes long, more than the limit of {limits.max_bytes}"
        raise ArtifactError([ArtifactFault(None, reason)])
    artifact = artifact_from(file, path, limits)
    faults = FaultList()
    check_dimensions(artifact.config, limits, faults)
    # With impossible ranks or sizes there are no expected shapes to check against.
    has_shapes = not len(faults)
    check_meaning(artifact.config, limits, faults)
    if base is not None:
        check_base(artifact.config, base, allow_base_mismatch=allow_base_mismatch, faults=faults)
    if has_shapes:
        check_layout(artifact.config, artifact.tensors, faults)
    check_values(file, artifact.tensors, faults, scales=artifact.config.sites.scales())
    faults.raise_if_any()
    return artifact
