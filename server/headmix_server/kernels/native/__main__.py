"""`python -m headmix_server.kernels.native`: build the library ahead of the first start; says what there is."""

from pathlib import Path

from headmix_server.kernels.native.build import BuildError, build_library, default_cache_dir


def main() -> None:
    """Build, and print the library's place or why there is none; not having one is no failure."""
    try:
        print(f"native kernels: {build_library(Path(__file__).parent, default_cache_dir())}")
    except BuildError as error:
        print(f"no native kernels, falling back to torch's own operations: {error}")


if __name__ == "__main__":
    main()
