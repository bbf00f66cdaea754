"""An upload is streamed: memory stays flat whatever its size."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

from harness.server.api_rig import api_rig

MIB = 1 << 20
SENT_MIB = 256
ALLOWED_MIB = 48


def resident_bytes() -> int:
    """Return the resident memory of this process, which is both client and server."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_memory_stays_flat_however_large_the_file(base_folder: Path, tmp_path: Path) -> None:
    block, seen = bytes(MIB), list[int]()

    async def body() -> AsyncIterator[bytes]:
        yield b"--b\r\nContent-Disposition: form-data; name=name\r\n\r\nbig\r\n"
        yield b"--b\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\n"
        for _ in range(SENT_MIB):
            yield block
            seen.append(resident_bytes())
        yield b"\r\n--b--\r\n"

    kind = {"content-type": "multipart/form-data; boundary=b"}
    async with api_rig(base_folder, tmp_path, settings={"max_adapter_mib": SENT_MIB}) as rig:
        response = await rig.client.post("/v1/adapters", content=body(), headers=kind)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid_adapter")
    assert max(seen) - seen[0] < ALLOWED_MIB * MIB


async def test_memory_stays_flat_while_a_file_is_uploaded_and_read(base_folder: Path, tmp_path: Path) -> None:
    block, seen, read = bytes(MIB), list[int](), 0

    async def body() -> AsyncIterator[bytes]:
        yield b"--b\r\nContent-Disposition: form-data; name=purpose\r\n\r\nbatch\r\n"
        yield b"--b\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\n"
        for _ in range(SENT_MIB):
            yield block
            seen.append(resident_bytes())
        yield b"\r\n--b--\r\n"

    kind = {"content-type": "multipart/form-data; boundary=b"}
    async with api_rig(base_folder, tmp_path) as rig:
        made = (await rig.client.post("/v1/files", content=body(), headers=kind)).json()
        async with rig.client.stream("GET", f"/v1/files/{made['id']}/content") as answer:
            async for received in answer.aiter_bytes():
                read += len(received)
                seen.append(resident_bytes())
    assert (made["bytes"], read) == (SENT_MIB * MIB, SENT_MIB * MIB)
    assert max(seen) - seen[0] < ALLOWED_MIB * MIB
