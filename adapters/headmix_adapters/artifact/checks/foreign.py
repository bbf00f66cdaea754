"""Recognizes what a non-safetensors file is by its first bytes; never unpacks or parses it.

Owns the signatures and the messages. `header` decides whether a file is safetensors.
"""

SNIFFED_BYTES = 64
SHOWN_BYTES = 16

_TORCH = "pickle is never read, save it as safetensors"
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", f"a zip archive (perhaps PyTorch's .bin or .pt); {_TORCH}"),
    (b"GGUF", "a GGUF file, not safetensors"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: fetch it with `git lfs pull`"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"\xfd7zXZ", "an xz archive: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive: unpack it first"),
    (b"\x89HDF", "an HDF5 file, not safetensors"),
    (b"\x93NUMPY", "a NumPy array, not safetensors"),
)
_TEXTS: tuple[tuple[bytes, str], ...] = (
    (b"{", "a JSON file, not safetensors"),
    (b"[", "a JSON file, not safetensors"),
    (b"<", "a web page or XML file, not safetensors: perhaps an error page that was saved as a download"),
)


def foreign_file(start: bytes, size: int) -> str:
    """Return the message for a non-safetensors file of `size` bytes that begins with `start`."""
    if size == 0:
        return "the file is empty"
    for signature, kind in _SIGNATURES:
        if start.startswith(signature):
            return f"this is {kind}"
    if len(start) > 1 and start[0] == 0x80 and start[1] <= 5:
        return f"this is a Python pickle; {_TORCH}"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for beginning, kind in _TEXTS:
        if text.startswith(beginning):
            return f"this is {kind}"
    if size <= 8:
        return f"this is not a safetensors file: it is only {size} bytes long"
    return f"this is not a safetensors file: it begins with {repr(start[:SHOWN_BYTES])[1:]}"
