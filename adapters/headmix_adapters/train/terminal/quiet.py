"""Keeps other packages' warnings, notices and progress bars out of what a person reads while training."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_packages() -> Iterator[None]:
    """Let through nothing below an error, from here on and in packages imported in the block."""
    # Read by torch's C++ side when it is loaded.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
