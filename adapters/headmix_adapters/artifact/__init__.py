"""The artifact: the single safetensors file of an adapter, how it is read and verified, and the digest that names it.

Importing it does not load torch; import `artifact.write` and `artifact.load`, which need torch, separately.
"""

from headmix_adapters.artifact.digest import digest_bytes, digest_file
from headmix_adapters.artifact.faults import ArtifactError, ArtifactFault
from headmix_adapters.artifact.header import TensorEntry
from headmix_adapters.artifact.limits import Limits
from headmix_adapters.artifact.open import Artifact, open_artifact
from headmix_adapters.artifact.verify import verify_artifact

__all__ = [
    "Artifact",
    "ArtifactError",
    "ArtifactFault",
    "Limits",
    "TensorEntry",
    "digest_bytes",
    "digest_file",
    "open_artifact",
    "verify_artifact",
]
