"""Bases: from a name to a model folder on this machine, its shape and its fingerprint.

Importing it loads neither torch nor transformers. It does not know how a model is loaded or run.
"""

from headmix_adapters.base.embedded import EMBEDDED
from headmix_adapters.base.errors import BaseError
from headmix_adapters.base.folder import read_base_shape
from headmix_adapters.base.positions import base_positions
from headmix_adapters.base.resolve import ResolvedBase, resolve_base
from headmix_adapters.base.weight_files import weight_files

__all__ = ["EMBEDDED", "BaseError", "ResolvedBase", "base_positions", "read_base_shape", "resolve_base", "weight_files"]
