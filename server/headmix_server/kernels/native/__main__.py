"""`python -m headmix_server.kernels.native`: make the library ready before the first start and report the result."""

from headmix_server.kernels.native.build import BuildError, build_library, default_cache_dir
from headmix_server.kernels.native.loading import AHEAD, SOURCES
from headmix_server.kernels.native.processor import best_library, processor_features


def main() -> None:
    """Print the path of the library compiled ahead of time, or build one; having none is not a failure."""
    ahead = best_library(AHEAD, processor_features())
    try:
        library = ahead or build_library(SOURCES, default_cache_dir())
        print(f"native kernels, compiled {'ahead' if ahead else 'here'}: {library}")
    except BuildError as error:
        print(f"no native kernels, falling back to torch's own operations: {error}")


if __name__ == "__main__":
    main()
