"""The real Gemma 3 270M, if its package is installed: 253 MB, which `make test` does not need and CI installs.

Without it, tests that need it are skipped and say so; with HEADMIX_TESTS_NEED_GEMMA set, as in CI, they fail instead.
"""

import os
from importlib.util import find_spec

import pytest

from headmix_adapters.base.embedded import EMBEDDED

NAME = "gemma3-270m"
NEEDED = "HEADMIX_TESTS_NEED_GEMMA"


def require_gemma() -> str:
    """Return the base's name; skip or fail the test if its package is not installed."""
    if find_spec(EMBEDDED[NAME].package) is None:
        reason = f"Gemma 3 270M is not installed: make gemma, or {EMBEDDED[NAME].install}"
        if os.environ.get(NEEDED):
            pytest.fail(reason)
        pytest.skip(reason)
    return NAME
