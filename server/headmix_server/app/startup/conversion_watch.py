"""The conversion of the base at the first start: shows its progress, and lets a stop interrupt it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from headmix_adapters.base.gguf.conversion import OnProgress
from headmix_adapters.base.gguf.conversion_progress import ConversionProgress
from headmix_adapters.base.gguf.progress_bar import conversion_bar
from headmix_server.app.errors import StartStopped
from headmix_server.core.observability.logging import LogFormat, get_logger, shows_console

LOG_SECONDS = 10.0


@contextmanager
def watch_conversion(
    log_format: LogFormat, is_stopping: Callable[[], bool], *, clock: Callable[[], float] = time.monotonic
) -> Iterator[OnProgress]:
    """Yield a progress callback: it draws a bar on a terminal, or else logs a line every ten seconds.

    It raises StartStopped once `is_stopping` is true.
    """
    log = get_logger("app")
    started = told = clock()

    def tell(progress: ConversionProgress) -> None:
        nonlocal told
        if clock() - told >= LOG_SECONDS:
            told = clock()
            seconds, percent = round(told - started), round(100 * progress.done)
            log.info("converting", file=progress.file, stage=progress.stage, percent=percent, seconds=seconds)

    with conversion_bar(Console(stderr=True)) as draw:

        def watch(progress: ConversionProgress) -> None:
            if is_stopping():
                raise StartStopped
            (draw if shows_console(log_format) else tell)(progress)

        yield watch
