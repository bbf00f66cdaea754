"""The readable reference of kernels over tiles, for devices without Triton and for tests of what goes round them."""

from torch import Tensor

from headmix_server.kernels.adapters.added_tokens import AddedInputs
from headmix_server.kernels.adapters.image_reference import ReferenceAdapters
from headmix_server.kernels.adapters.image_tables import ImageTables, RowRoute
from headmix_server.kernels.adapters.protocol import StepAdapters
from headmix_server.kernels.adapters.row_tiles import RowTiles
from headmix_server.kernels.triton.needs import Launches


def reference_step(
    tables: ImageTables, tiles: RowTiles, z: Tensor, launches: Launches, added: AddedInputs | None
) -> StepAdapters:
    """Make a step that reads tiles when it is asked, as kernels do; see `device.cuda.fixed_storage.MakeTiledStep`."""
    del z, launches
    return ReferenceAdapters(tables, RowRoute(tiles.slots, tiles.starts, tiles.rows), added)
