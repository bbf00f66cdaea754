"""The pictures of a finished run, next to its artifact: its learning curves and its head map.

Owns their names. Nothing that goes wrong with a picture is allowed to fail the run.
"""

from pathlib import Path
from typing import get_args

from headmix_adapters.artifact.open import open_artifact
from headmix_adapters.base.resolve import ResolvedBase
from headmix_adapters.pictures.canvas import PictureError, PictureFormat, require_matplotlib
from headmix_adapters.train.history.history import history_path, read_history


def run_pictures(artifact: Path, kind: PictureFormat) -> tuple[Path, Path]:
    """Return where the pictures of an artifact's run are: the curves and the head map."""
    return artifact.with_name(f"{artifact.stem}.curves.{kind}"), artifact.with_name(f"{artifact.stem}.heads.{kind}")


def draw_run(artifact: Path, base: ResolvedBase, kind: PictureFormat | None) -> str:
    """Draw a finished run's pictures, unless `kind` is None, and return what to say about them.

    Pictures of an earlier run under the same name are deleted: they don't show this one.
    """
    for old in get_args(PictureFormat):
        for path in run_pictures(artifact, old):
            path.unlink(missing_ok=True)
    if kind is None:
        return ""
    try:
        require_matplotlib()
        drawn = _draw(artifact, base, kind)
    except PictureError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - the adapter is trained and written, whatever is wrong with a picture
        return f"the pictures could not be drawn: {error}"
    return f"drew {' and '.join(str(path) for path in drawn)}"


def _draw(artifact: Path, base: ResolvedBase, kind: PictureFormat) -> list[Path]:
    from headmix_adapters.headmap import map_heads
    from headmix_adapters.pictures.curves import draw_curves
    from headmix_adapters.pictures.head_map import draw_head_maps

    curves, heads = run_pictures(artifact, kind)
    drawn, name = [], artifact.stem
    history = read_history(history_path(artifact))
    if history.steps:
        draw_curves(history, name, curves)
        drawn.append(curves)
    opened = open_artifact(artifact)
    if opened.layers:
        draw_head_maps({name: map_heads(opened, base)}, heads)
        drawn.append(heads)
    return drawn
