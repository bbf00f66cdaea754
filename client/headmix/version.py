"""Owns which version of the distribution is installed."""

from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

DISTRIBUTION = "headmix"


@cache
def version() -> str:
    """Return the installed distribution's version; `0+unknown` for a source tree that is not installed."""
    try:
        return installed_version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0+unknown"
