"""hatchling's build hook: a wheel gets the kernels that were compiled ahead, where there are any.

HEADMIX_WHEEL_KERNELS names their folder; `python -m harness.wheel` compiles them and sets it. Without it the wheel is
pure Python and its kernels are compiled at the first start. Nothing is compiled here: that takes torch's headers, and
a build from source should not install torch a second time.
"""

import os
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "HEADMIX_WHEEL_KERNELS"
PLACE = "headmix_server/kernels/native/ahead"


class KernelsHook(BuildHookInterface[Any]):
    """Adds the libraries to a wheel and names the platform they are for."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Put each library of the folder in its place.

        Raises:
            FileNotFoundError: the folder has none.
        """
        folder = os.environ.get(FOLDER)
        if not folder or version == "editable":
            return
        libraries = sorted(Path(folder).glob("*.so"))
        if not libraries:
            raise FileNotFoundError(f"{FOLDER}={folder}: no libraries in it")
        build_data["force_include"].update({str(library): f"{PLACE}/{library.name}" for library in libraries})
        build_data["pure_python"] = False
        # They use torch's interface and not Python's: one wheel serves every Python.
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
