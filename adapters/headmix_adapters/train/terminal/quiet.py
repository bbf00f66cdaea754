"""Keeps other packages' warnings, notices and progress bars out of the training output."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_packages() -> Iterator[None]:
    """Suppress everything below an error, from now on and in packages imported in the block."""
    # Read by torch's C++ part when it is loaded.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
