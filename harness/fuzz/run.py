"""One run of one target, in its own process: `python -m harness.fuzz.run TARGET SECONDS FOLDER`.

With Atheris, libFuzzer mutates the bytes that Hypothesis draws its choices from and keeps what reaches new code;
without it, Hypothesis draws at random. The first line of output says which of the two is used.
"""

import importlib.util
import logging
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from hypothesis import HealthCheck, Phase, given, seed, settings

from harness.fuzz.record import Record
from harness.fuzz.targets.registry import load_target
from harness.fuzz.targets.target import Target

INSTRUMENTED = ("headmix_server", "headmix_adapters", "python_multipart", "starlette", "uvicorn", "harness.fuzz")
MEGABYTES = 4096
BATCH = 200
SEEDS = 64
"""The random seeds to begin with: from an empty input libFuzzer takes long to reach complete inputs."""


def main() -> None:
    """Run the target."""
    name, seconds, folder = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])
    _silence_logs()
    guided = importlib.util.find_spec("atheris") is not None
    print("atheris" if guided else "hypothesis", flush=True)
    (_run_guided if guided else _run_at_random)(name, seconds, folder)


def _silence_logs() -> None:
    """Silence logging: the server and its libraries log every refusal."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    for name in ("uvicorn", "python_multipart"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _run_guided(name: str, seconds: float, folder: Path) -> None:
    import atheris

    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        target = load_target(name)
    choices = folder / "choices"
    choices.mkdir(parents=True, exist_ok=True)
    for number in range(SEEDS):
        (choices / f"seed-{number}").write_bytes(random.Random(number).randbytes(16 << number % 8))
    record = Record(target, folder)
    options = [
        f"-max_total_time={max(1, int(seconds))}",
        f"-rss_limit_mb={MEGABYTES}",
        "-timeout=120",
        "-max_len=16384",
        "-len_control=0",
        f"-artifact_prefix={folder}/",
    ]
    atheris.Setup([sys.argv[0], *options, "-verbosity=0", str(choices)], _from_choices(target, record.try_input))
    atheris.Fuzz()  # ends the process


def _from_choices(target: Target, try_input: Callable[[bytes], None]) -> Callable[[bytes], object]:
    test = _settings(1)(given(target.inputs)(try_input))
    fuzz: Callable[[bytes], object] = test.hypothesis.fuzz_one_input  # type: ignore[attr-defined]  # Hypothesis adds it
    return fuzz


def _run_at_random(name: str, seconds: float, folder: Path) -> None:
    target = load_target(name)
    record = Record(target, folder)
    until, batch = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        seed(batch)(_settings(BATCH)(given(target.inputs)(record.try_input)))()
        batch += 1
    record.write()
    from harness.fuzz.live_api import close_live_api  # not above: Atheris must be imported before what it instruments

    close_live_api()


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


if __name__ == "__main__":
    main()
