"""What every measurement must state: the machine, the versions and the date."""

import datetime
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from headmix_adapters.machine.cpus import read_cpu_budget

PACKAGES = ("headmix", "torch", "transformers", "peft", "numpy")


def describe_machine() -> dict[str, str | int]:
    """Return machine, versions and date, for the JSON line of a benchmark."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": _cpu_name(),
        "cores": read_cpu_budget().cores,
        "torch_threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()
