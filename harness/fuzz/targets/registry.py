"""The targets by name. A module is imported when its target is requested, since Atheris must be imported before it."""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from harness.fuzz.targets.target import Target

MODULES: Mapping[str, str] = MappingProxyType(
    {
        "multipart": "harness.fuzz.targets.multipart",
        "headers": "harness.fuzz.targets.headers",
        "artifact": "harness.fuzz.targets.artifact",
        "peft-config": "harness.fuzz.targets.peft_config",
        "bodies": "harness.fuzz.targets.bodies",
        "frames": "harness.fuzz.targets.frames",
        "grammars": "harness.fuzz.targets.grammars",
    }
)


def load_target(name: str) -> Target:
    """Return a target of `MODULES`."""
    target = import_module(MODULES[name]).TARGET
    assert isinstance(target, Target)
    return target
