"""`python -m harness.wheel` (`make wheel`): write the sdist and the wheel with kernels to dist/.

The wheel is built twice: from this tree, and from the unpacked sdist in another folder. Both must be the same bytes.
"""

import argparse
import shutil
import sys
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.wheel.build import ROOT, build_wheel, pack
from headmix_server.kernels.native.build import BuildError


def main() -> int:
    """Build, compare and print what was made; 1 if there is no compiler or the bytes differ."""
    parser = argparse.ArgumentParser(prog="harness.wheel", description="Build a wheel with compiled kernels.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder to write (default: dist)")
    out = parser.parse_args().out.resolve()
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (sdist,) = pack(ROOT, folder / "sdist", {}, "sdist")
        shutil.unpack_archive(sdist, folder, filter="data")
        try:
            wheel = build_wheel(folder / "one", folder / "cache")
            again = build_wheel(folder / "other", folder / "other-cache", folder / sdist.name.removesuffix(".tar.gz"))
        except BuildError as error:
            print(f"no wheel with kernels: {error}\n`pip wheel --no-deps .` makes one without", file=sys.stderr)
            return 1
        if wheel.read_bytes() != again.read_bytes():
            print("the wheel of the sdist has other bytes than the wheel of this tree", file=sys.stderr)
            return 1
        out.mkdir(parents=True, exist_ok=True)
        for made in (sdist, wheel):
            digest = sha256(made.read_bytes()).hexdigest()
            print(f"{shutil.copy(made, out)}: {made.stat().st_size} bytes, sha256 {digest}")
    print("built twice, the same bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
