"""The engine process: connects base, runner and engine, and serves them over one socket. No web framework here.

Started by the supervisor as `python -m headmix_server.worker --fingerprint sha256:... --endpoint ipc://...`, with the
settings as one line of JSON on standard input, which stays open: when it ends, the API process is gone and this process
must exit too.
"""

import argparse
import os
import signal
import sys
import threading
from time import perf_counter
from typing import TYPE_CHECKING

from headmix_adapters.base import BaseError, ResolvedBase, resolve_base
from headmix_adapters.machine.cpus import read_cpu_budget
from headmix_server.core.adapter_memory import MIB, AdapterMemory, adapter_memory
from headmix_server.core.grammar import GrammarError
from headmix_server.core.messages import EngineReady
from headmix_server.core.observability.collector import keep_for_good
from headmix_server.core.observability.logging import configure_logging, get_logger
from headmix_server.core.runner import Runner
from headmix_server.core.settings.names import called
from headmix_server.core.settings.settings import Settings
from headmix_server.engine.config import EngineConfig
from headmix_server.engine.failed_steps import EngineBrokenError
from headmix_server.engine.fake_runner import FakeRunner
from headmix_server.engine.loop import Engine
from headmix_server.engine.server import EngineServer, refuse

if TYPE_CHECKING:
    from torch import Tensor

    from headmix_server.device.adapters.slot_storage import SlotStorage
    from headmix_server.device.placement import Placement
    from headmix_server.models.config import ModelConfig
    from headmix_server.text.grammars.compiler import TokenCompiler

EXIT_START_FAILED = 3
EXIT_BROKEN = 4
EXIT_ORPHANED = 5

FAKE_MAX_MODEL_LEN = 2048
FAKE_KV_BLOCKS = 4096

CPU_CACHE_BYTES = 2048 * 2**20


class StartError(Exception):
    """The engine cannot be built with these settings."""


def main(arguments: list[str] | None = None) -> int:
    """Run the engine process until it is stopped; return its exit status."""
    parser = argparse.ArgumentParser(prog="headmix_server.worker")
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--fingerprint", help="of the base that the API process found")
    given = parser.parse_args(arguments)
    settings = Settings.model_validate_json(sys.stdin.readline())
    configure_logging(settings.log_level, "engine", settings.log_format)
    log = get_logger("worker")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal group; the API process decides
    threading.Thread(target=_exit_with_parent, name="parent-watch", daemon=True).start()
    try:
        base = resolve_base(settings.base)
        _check_fingerprint(base, given.fingerprint)
        log.info("loading the base", base=base.name)
        runner, limits = build_runner(settings, base, own_process=True)
    except (BaseError, StartError) as error:
        log.critical("engine cannot start", reason=str(error))
        refuse(given.endpoint, str(error))
        return EXIT_START_FAILED
    engine = Engine(runner, limits, compiler=_prepared(grammar_compiler(base, limits)))
    keep_for_good()
    ready = EngineReady(
        pid=os.getpid(),
        max_model_len=limits.longest,
        kv_blocks=limits.kv_blocks,
        block_size=limits.block_size,
        adapter_slots=limits.adapter_slots,
        device_adapter_bytes=limits.device_adapter_bytes,
        host_adapter_bytes=limits.host_adapter_bytes,
        adapter_number_bytes=runner.adapter_number_bytes,
    )
    log.info("engine ready", base=base.name, max_model_len=ready.max_model_len, kv_blocks=ready.kv_blocks)
    try:
        EngineServer(engine, given.endpoint, ready).run()
    except EngineBrokenError as error:
        log.critical("engine gives up", reason=str(error))
        return EXIT_BROKEN
    return 0


def _check_fingerprint(base: ResolvedBase, expected: str | None) -> None:
    """Refuse weights replaced since the API process started: it checks and names adapters by those it found.

    Raises:
        StartError: they were.
    """
    found = base.shape.fingerprint
    if expected not in (None, found):
        raise StartError(f"the base {base.name} had {expected} when the server started and has {found}: restart it")


def _exit_with_parent() -> None:
    """Read standard input to its end, which comes only when the API process has ended, for whatever reason.

    It reads the descriptor directly: a thread blocked in `sys.stdin`'s lock makes the interpreter abort at exit.
    """
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(EXIT_ORPHANED)


def build_runner(settings: Settings, base: ResolvedBase, *, own_process: bool = False) -> tuple[Runner, EngineConfig]:
    """Build the runner chosen by the settings, and the limits that follow from it.

    In a process of its own, the threads of steps stay on their cores; the thread that runs them must start no others.

    Raises:
        StartError: the base is not supported, or the cache is too small for it.
    """
    if settings.runner == "fake":
        runner = FakeRunner(range(base.shape.vocab_size), base=base.shape.fingerprint)
        memory = adapter_memory(settings)
        return runner, _limits(settings, memory, settings.max_model_len or FAKE_MAX_MODEL_LEN, FAKE_KV_BLOCKS)
    from headmix_server.device.threads import on_passing_thread

    return on_passing_thread(lambda: _build_torch_runner(settings, base, own_process=own_process))


def grammar_compiler(base: ResolvedBase, limits: EngineConfig) -> "TokenCompiler | None":
    """Return what compiles grammars for the base, None for one that reads whole texts and generates nothing."""
    if limits.whole_prompts:
        return None
    from headmix_server.text.grammars.compiler import TokenCompiler
    from headmix_server.text.tokenizer import load_tokenizer

    return TokenCompiler(lambda: load_tokenizer(base.folder), base.shape.vocab_size, limits.eos_ids)


def _prepared(compiler: "TokenCompiler | None") -> "TokenCompiler | None":
    """Have the base's vocabulary read now: later it would hold the interpreter, and every step with it."""
    if compiler is not None:
        started = perf_counter()
        try:
            compiler.prepare()
        except GrammarError as error:
            get_logger("worker").warning("no form of an answer can be enforced", reason=str(error))
        get_logger("worker").info("vocabulary for grammars", seconds=round(perf_counter() - started, 2))
    return compiler


def _build_torch_runner(settings: Settings, base: ResolvedBase, *, own_process: bool) -> tuple[Runner, EngineConfig]:
    from headmix_server.device.adapters.choose_storage import NoKernelsError
    from headmix_server.device.cuda.fixed_storage import FixedStorage
    from headmix_server.device.kv_memory import KVMemory
    from headmix_server.device.memory_asked_for import memory_asked_for
    from headmix_server.device.placement import PlacementError, choose_placement, matrix_dtype
    from headmix_server.device.runner import TorchRunner
    from headmix_server.models.config import UnsupportedModelError
    from headmix_server.models.loading.registry import load_model
    from headmix_server.models.loading.stored_weights import choose_weights

    _choose_threads(settings.threads)
    try:
        placement = choose_placement(settings.device, settings.dtype)
        matrices = matrix_dtype(placement, settings.dtype)
        form, stored = choose_weights(base, settings.weights, matrices, settings.quantize, placement.device)
        model = load_model(base.folder, placement.dtype, form, placement.device, stored)
        adapters = _adapter_memory(settings, placement)
        storage = _make_storage(settings, base, placement, adapters.device)
    except (UnsupportedModelError, PlacementError, NoKernelsError) as error:
        raise StartError(str(error)) from error
    _check_shape(base, model.config)
    places = _choose_places(placement) if own_process else None
    longest = model.config.max_positions
    if settings.max_model_len > longest:
        name = called("max_model_len")
        raise StartError(f"{name} takes at most the base's {longest} positions, not {settings.max_model_len}")
    longest = settings.max_model_len or longest
    if not model.generates:
        # No keys are cached, but every running text still counts blocks in the engine: enough for all at once.
        blocks = settings.max_running * -(-longest // settings.block_size)
        runner = TorchRunner(model, base.shape, None, storage, placement, places=places)
        return runner, _limits(settings, adapters, longest, blocks, whole_prompts=True)
    blocks = _cache_blocks(settings, model.config, placement)
    scratch = 1 if placement.on_cuda else 0  # a block that no sequence holds, for padding rows of captured steps
    try:
        with memory_asked_for("kv_cache_mib"):
            memory = KVMemory(model.config, blocks + scratch, settings.block_size, placement.dtype, placement.device)
    except PlacementError as error:
        raise StartError(str(error)) from error
    decode = attention = None
    if isinstance(storage, FixedStorage):
        from headmix_server.device.cuda.build import attention_backend, find_flashinfer, make_cuda_decode
        from headmix_server.device.cuda.warm_up import warm_up

        library = find_flashinfer(model.config.head_dim, placement)
        attention = attention_backend(library)
        decode = make_cuda_decode(model, storage, memory, -(-longest // settings.block_size))
        warm_up(model, memory, storage, decode, attention, settings.max_running)
    runner = TorchRunner(model, base.shape, memory, storage, placement, decode, attention, places)
    return runner, _limits(settings, adapters, longest, blocks, model.config.eos_ids, captured=decode is not None)


def _choose_threads(wanted: int) -> None:
    """Let the calling thread compute with the wanted number of threads, or with what the process can keep busy."""
    import torch

    from headmix_adapters.machine.threads import limit_threads

    log, budget = get_logger("worker"), read_cpu_budget()
    if wanted:
        torch.set_num_threads(wanted)
    threads = wanted or limit_threads(budget)
    log.info("threads", threads=threads, asked_for=bool(wanted), affinity=budget.affinity, cpu_quota=budget.quota)
    if threads > budget.cores:
        log.warning("more threads than cores this process may use: each step waits for the slowest", cores=budget.cores)


def _choose_places(placement: "Placement") -> "Tensor | None":
    """Return the cores on which the threads of steps stay; None leaves them to the system."""
    if placement.on_cuda:
        return None
    import torch

    from headmix_adapters.machine.cores import choose_cores
    from headmix_server.device.threads import as_places

    cores = choose_cores(torch.get_num_threads(), read_cpu_budget())
    places = as_places(cores)
    get_logger("worker").info("cores of the threads", stay_on=None if places is None else cores)
    return places


def _adapter_memory(settings: Settings, placement: "Placement") -> AdapterMemory:
    """Return the budgets, now that the base is loaded; the cache's memory, which grows page by page, is promised."""
    if not placement.on_cuda:
        return adapter_memory(settings, promised=settings.kv_cache_mib * MIB or CPU_CACHE_BYTES)
    from headmix_server.device.cuda.build import free_bytes

    return adapter_memory(settings, free_on_gpu=free_bytes(placement.device))


def _make_storage(settings: Settings, base: ResolvedBase, placement: "Placement", max_bytes: int) -> "SlotStorage":
    """Create the device's slots; raises PlacementError or NoKernelsError if the device cannot provide them as set."""
    from headmix_server.device.adapters.choose_storage import make_storage
    from headmix_server.device.memory_asked_for import memory_asked_for

    if not placement.on_cuda:
        with memory_asked_for("adapter_slots"):
            return make_storage(
                settings.adapter_kernels, base.shape, settings.adapter_slots, placement.dtype, max_bytes
            )
    from headmix_server.device.cuda.build import make_cuda_storage

    return make_cuda_storage(base.shape, settings.adapter_slots, max_bytes // MIB, settings.max_adapter_rank, placement)


def _cache_blocks(settings: Settings, config: "ModelConfig", placement: "Placement") -> int:
    """Return the number of blocks of the key/value cache.

    Raises:
        StartError: there is no room for one, or they exceed the machine's memory.
    """
    from headmix_server.device.kv_memory import block_bytes

    size = settings.kv_cache_mib * 2**20
    if placement.on_cuda:
        from headmix_server.device.cuda.build import free_cache_bytes

        size = size or free_cache_bytes(placement.device)
    elif size > (memory := _machine_bytes()):  # the kernel would grant more, and kill the process when it is used
        raise StartError(f"{called('kv_cache_mib')} takes at most this machine's {memory >> 20} MiB")
    blocks = (size or CPU_CACHE_BYTES) // block_bytes(config, settings.block_size, placement.dtype)
    if placement.on_cuda:
        blocks -= 1  # for the padding of captured steps
    if blocks < 1:
        name = called("kv_cache_mib")
        raise StartError(f"{name} is too small: the key/value cache does not hold one block of --block-size tokens")
    return blocks


def _machine_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _check_shape(base: ResolvedBase, config: "ModelConfig") -> None:
    """Check that adapters are checked against the same dimensions that the model computes with.

    Raises:
        StartError: they differ; config.json was read in two different ways.
    """
    for field in ("hidden_size", "num_layers", "num_heads", "num_kv_heads", "head_dim", "vocab_size"):
        told, computed = getattr(base.shape, field), getattr(config, field)
        if told != computed:
            raise StartError(f"the base's {field} is read as {told} for adapters and as {computed} for computing")


def _limits(
    settings: Settings,
    memory: AdapterMemory,
    max_model_len: int,
    kv_blocks: int,
    eos_ids: frozenset[int] = frozenset(),
    *,
    whole_prompts: bool = False,
    captured: bool = False,
) -> EngineConfig:
    return EngineConfig(
        whole_prompts=whole_prompts,
        max_model_len=max_model_len,
        kv_blocks=kv_blocks,
        block_size=settings.block_size,
        max_batch_tokens=settings.max_batch_tokens,
        max_running=settings.max_running,
        max_waiting=settings.max_waiting,
        speculative_tokens=0 if whole_prompts else _speculative_tokens(settings, captured=captured),
        adapter_slots=settings.adapter_slots,
        host_adapters=settings.host_adapters,
        loader_threads=settings.loader_threads,
        eos_ids=eos_ids,
        prefix_cache=settings.prefix_cache == "on",
        device_adapter_bytes=memory.device,
        host_adapter_bytes=memory.host,
    )


def _speculative_tokens(settings: Settings, *, captured: bool) -> int:
    """Return how many tokens are guessed ahead; the log has the answer, and why there are none."""
    wanted = settings.speculative_tokens
    if wanted and captured:  # a captured step knows one position a row
        get_logger("worker").info("speculation", tokens=0, reason="decode steps are captured")
        return 0
    get_logger("worker").info("speculation", tokens=wanted, drafter="prompt lookup" if wanted else None)
    return wanted


if __name__ == "__main__":
    sys.exit(main())
