"""The parts of a GPU runner, on the CPU: fixed storage, static steps run eagerly, the reference kernels."""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from headmix_adapters.base import ResolvedBase
from headmix_adapters.config import BaseShape
from headmix_adapters.sites import TERMS
from headmix_server.core.settings.settings import Settings
from headmix_server.device.cuda.fixed_storage import FixedStorage
from headmix_server.device.cuda.static_decode import StaticDecode
from headmix_server.device.cuda.static_step import StaticStep, StepShape
from headmix_server.device.cuda.transfer import Ticket, Transfer
from headmix_server.device.kv_memory import KVMemory
from headmix_server.device.placement import Placement
from headmix_server.device.runner import TorchRunner
from headmix_server.engine.loop import Engine
from headmix_server.kernels.adapters.added_tokens import AddedInputs
from headmix_server.kernels.adapters.image_reference import ReferenceAdapters
from headmix_server.kernels.adapters.image_tables import ImageTables, RowRoute
from headmix_server.kernels.adapters.protocol import StepAdapters
from headmix_server.kernels.adapters.row_tiles import RowTiles
from headmix_server.kernels.attention.static import ReferenceStaticAttention
from headmix_server.kernels.triton.needs import Launches, z_width
from headmix_server.models.loading.registry import load_model
from headmix_server.models.model import Model
from headmix_server.worker import build_runner

CPU = Placement(torch.device("cpu"), torch.float32)


class EagerReplay:
    """See `Replay`: runs the step eagerly."""

    def __init__(self, step: StaticStep) -> None:
        self._step = step

    def run(self) -> Tensor:
        """See `Replay`."""
        self._step.compute()
        if self._step.hidden is None:
            raise RuntimeError("the step was not computed")
        return self._step.hidden


class _Done:
    pass


class SynchronousTransfer:
    """See `Transfer`: a copy is complete when the call returns."""

    def stage(self, tensor: Tensor) -> Tensor:
        """See `Transfer`."""
        return tensor

    def start(self, copies: Callable[[], None]) -> Ticket:
        """See `Transfer`."""
        copies()
        return _Done()

    def wait(self, tickets: Iterable[Ticket]) -> None:
        """See `Transfer`."""


def reference_step(
    tables: ImageTables, tiles: RowTiles, z: Tensor, launches: Launches, added: AddedInputs | None
) -> StepAdapters:
    """Make a step that reads tiles when it runs, as kernels do; see `device.cuda.fixed_storage.MakeTiledStep`."""
    del z, launches
    each = torch.arange(tiles.num_tiles + 1, dtype=torch.int32, device=tiles.slots.device)
    ones = torch.ones(tiles.num_tiles, device=tiles.slots.device)
    return ReferenceAdapters(tables, RowRoute(tiles.slots, ones, each, tiles.starts, tiles.rows), added)


def fixed_storage(
    base: BaseShape,
    num_slots: int,
    *,
    capacity: int = 1_000_000,
    max_rank: int = 32,
    transfer: Transfer | None = None,
    placement: Placement = CPU,
) -> FixedStorage:
    """Make slots in memory that never moves; `capacity` counts numbers."""
    return FixedStorage(
        base,
        num_slots,
        capacity,
        z_width(base, dict.fromkeys(TERMS, max_rank)),
        placement.dtype,
        placement.device,
        transfer or SynchronousTransfer(),
        reference_step,
    )


def static_decode(
    model: Model,
    storage: FixedStorage,
    memory: KVMemory,
    blocks: int,
    placement: Placement = CPU,
) -> StaticDecode:
    """Make decode steps that are run eagerly; the memory's last block is the scratch block."""

    def make_step(shape: StepShape) -> StaticStep:
        attention = ReferenceStaticAttention(memory.layers, memory.block_size, shape.rows, shape.blocks)
        return StaticStep(model, storage, attention, shape, blocks, placement.device)

    longest = -(-model.config.max_positions // memory.block_size)
    return StaticDecode(storage, memory.block_size, longest, make_step, EagerReplay)


def load_tiny(folder: Path) -> Model:
    """Load a checkpoint in plain float32."""
    return load_model(folder, torch.float32)


def build_static_engine(base: ResolvedBase, settings: Settings) -> tuple[Engine, StaticDecode]:
    """Build an engine whose decode steps are static ones."""
    _, limits = build_runner(settings, base)
    model = load_tiny(base.folder)
    storage = fixed_storage(base.shape, settings.adapter_slots)
    memory = KVMemory(model.config, limits.kv_blocks + 1, settings.block_size, torch.float32)
    decode = static_decode(model, storage, memory, limits.kv_blocks)
    return Engine(TorchRunner(model, base.shape, memory, storage, CPU, decode), limits), decode
