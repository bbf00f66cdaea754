"""What the server does about files every minute."""

import time
from datetime import timedelta
from pathlib import Path

from harness.server.migrated_file import migrated_file
from headmix_server.app.upkeep.file_upkeep import COLLECT_SECONDS, FileUpkeep
from headmix_server.core.observability.metrics import Metrics
from headmix_server.database import open_database
from headmix_server.files.stored_file import Purpose
from headmix_server.files.sweep import Sweep
from tests.support.storage.files import later, open_in


def test_expired_files_go_metrics_follow_and_unknown_bytes_go_once_a_day(tmp_path: Path) -> None:
    (tmp_path / "headmix.db").write_bytes(migrated_file())
    engine = open_database(tmp_path / "headmix.db")
    files, metrics, now = open_in(tmp_path, engine), Metrics(series=1, version="0", base="b"), [0.0]
    upkeep = FileUpkeep(Sweep(engine, files, young=timedelta(0)), metrics, clock=lambda: now[0])
    files.put("acme", Purpose.BATCH, "a", [b"same"])
    files.put("zoo", Purpose.BATCH, "b", [b"same"])
    files.put("zoo", Purpose.BATCH, "c", [b"short"], expires=int(time.time()) + 3600)

    def leave_bytes() -> None:
        with files.bytes.receive(max_bytes=9) as upload:
            upload.write(b"unknown")
            files.bytes.commit(upload)

    def there() -> int:
        return len(list(files.bytes.digests()))

    leave_bytes()
    upkeep()
    assert there() == 2
    assert b"headmix_files 3.0" in metrics.render(tenants=False)[0]
    assert b"headmix_file_bytes 9.0" in metrics.render(tenants=False)[0]
    leave_bytes()
    with later(3601):
        upkeep()
    assert there() == 2  # the expired one is gone, and nobody has looked for unknown ones yet
    assert b"headmix_files 2.0" in metrics.render(tenants=False)[0]
    now[0] += COLLECT_SECONDS
    upkeep()
    assert there() == 1
    engine.dispose()
