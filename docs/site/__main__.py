"""`python -m docs.site [FOLDER]`: build the site into build/docs or another folder; exit status 1 on any warning."""

import shutil
import sys
from pathlib import Path

from sphinx.cmd.build import build_main

from docs.site.pages import SiteError, stage_pages

ROOT = Path(__file__).parents[2]


def main(folder: Path, root: Path = ROOT) -> int:
    """Build the site of the repository at `root` and return the exit status."""
    stage = folder.with_name(f"{folder.name}-source")
    for made in (stage, folder):
        shutil.rmtree(made, ignore_errors=True)
    try:
        stage_pages(root, stage)
    except SiteError as error:
        print(error, file=sys.stderr)
        return 1
    conf = str(Path(__file__).parent)
    status = build_main(["-b", "html", "-c", conf, "-d", str(stage / ".doctrees"), "-W", "-q", str(stage), str(folder)])
    if status == 0:
        print(f"built {folder / 'index.html'}")
    return status


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "docs")))
