"""The targets by name. Each module is imported when its target is asked for: Atheris has to be there before it."""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from benchmarks.fuzz.target import Target

MODULES: Mapping[str, str] = MappingProxyType(
    {
        "multipart": "benchmarks.fuzz.multipart",
        "headers": "benchmarks.fuzz.headers",
        "artifact": "benchmarks.fuzz.artifact",
        "peft-config": "benchmarks.fuzz.peft_config",
        "bodies": "benchmarks.fuzz.bodies",
        "frames": "benchmarks.fuzz.frames",
    }
)


def load_target(name: str) -> Target:
    """Return a target of `MODULES`."""
    target = import_module(MODULES[name]).TARGET
    assert isinstance(target, Target)
    return target
