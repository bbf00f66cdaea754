"""Schema migrations: every database ends at the schema the code declares, and no row is lost."""

import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, text

from harness.adapters.records import BASE, record_of
from headmix_server.catalog.catalog import Catalog
from headmix_server.catalog.tables import FileRow
from headmix_server.database import Base, DatabaseUnusable, ensure_tenant, open_database, writing
from headmix_server.database.migrate import alembic_config
from headmix_server.files.tables import FileHoldRow, UploadPartRow
from headmix_server.jobs.tables import JobRow
from headmix_server.tenancy.keys.keys import Keys

OLD_SCHEMA = """
CREATE TABLE tenants (name VARCHAR NOT NULL, created INTEGER NOT NULL, PRIMARY KEY (name));
CREATE TABLE adapters (
    id INTEGER NOT NULL, tenant VARCHAR NOT NULL, name VARCHAR NOT NULL, current INTEGER, last INTEGER NOT NULL,
    PRIMARY KEY (id), UNIQUE (tenant, name), FOREIGN KEY(tenant) REFERENCES tenants (name)
);
CREATE TABLE keys (
    id VARCHAR NOT NULL, tenant VARCHAR NOT NULL, name VARCHAR, prefix VARCHAR NOT NULL, hash BLOB NOT NULL,
    scopes VARCHAR NOT NULL, created INTEGER NOT NULL, revoked INTEGER,
    PRIMARY KEY (id), FOREIGN KEY(tenant) REFERENCES tenants (name)
);
CREATE INDEX ix_keys_prefix ON keys (prefix);
CREATE INDEX ix_keys_tenant ON keys (tenant);
CREATE TABLE versions (
    adapter_id INTEGER NOT NULL, number INTEGER NOT NULL, digest VARCHAR NOT NULL, size_bytes INTEGER NOT NULL,
    num_parameters INTEGER NOT NULL, config VARCHAR NOT NULL, created INTEGER NOT NULL,
    PRIMARY KEY (adapter_id, number), FOREIGN KEY(adapter_id) REFERENCES adapters (id)
);
CREATE INDEX ix_versions_digest ON versions (digest);
CREATE TABLE promotions (
    adapter_id INTEGER NOT NULL, position INTEGER NOT NULL, number INTEGER NOT NULL,
    PRIMARY KEY (adapter_id, position), FOREIGN KEY(adapter_id) REFERENCES adapters (id)
);
PRAGMA user_version = 1;
"""
"""The schema of headmix's first version."""


def test_the_migrated_schema_is_the_one_the_code_declares(engine: Engine) -> None:
    assert {UploadPartRow.__tablename__, JobRow.__tablename__} <= set(Base.metadata.tables)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_every_revision_can_be_undone_and_repeated(engine: Engine) -> None:
    with engine.execution_options(immediate=True).begin() as connection:
        config = alembic_config(connection)
        command.downgrade(config, "base")
        command.upgrade(config, "head")
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_a_database_of_the_first_headmix_keeps_its_tenants_keys_and_adapters(tmp_path: Path) -> None:
    path = tmp_path / "headmix.db"
    fresh = open_database(tmp_path / "fresh.db")
    key = Keys(fresh).create("acme", ["inference"])
    version = Catalog(fresh).publish("acme", "a", record_of(b"1")).version
    fresh.dispose()
    with sqlite3.connect(path) as old:
        old.executescript(OLD_SCHEMA)
        old.execute(f"ATTACH '{tmp_path / 'fresh.db'}' AS fresh")
        for table in ("tenants", "adapters", "keys", "versions", "promotions"):
            columns = ", ".join(row[1] for row in old.execute(f"PRAGMA main.table_info({table})"))
            old.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM fresh.{table}")
    old.close()
    migrated = open_database(path)
    assert Keys(migrated).authenticate(key.plaintext).tenant == "acme"
    assert Catalog(migrated).resolve("acme", "a") == version
    assert Catalog(migrated).stored_digests() == {version.digest}
    migrated.dispose()


def test_artifacts_of_before_count_as_accepted_for_the_base_their_header_names(engine: Engine) -> None:
    catalog = Catalog(engine)
    for name, content in (("a", b"1"), ("a", b"2"), ("gone", b"3")):
        catalog.publish("acme", name, record_of(content, base="another, which the downgrade forgets"))
    catalog.delete("acme", "gone")
    with engine.execution_options(immediate=True).begin() as connection:
        config = alembic_config(connection)
        command.downgrade(config, "0005")
        command.upgrade(config, "head")
        bases = connection.execute(text("SELECT base FROM artifacts")).scalars().all()
        assert connection.execute(text("SELECT base, base_name FROM identity")).one() == (None, None)
    assert bases == [BASE.fingerprint] * 3
    assert catalog.resolve("acme", "a").accepted_for == BASE.fingerprint


def test_holds_of_jobs_of_before_have_the_size_of_their_file(engine: Engine) -> None:
    with writing(engine) as session:
        ensure_tenant(session, "acme")
        session.add(
            FileRow(
                id="f", tenant="acme", purpose="batch", filename="f", digest="d", size_bytes=7, created=1, expires=None
            )
        )
        session.add_all([FileHoldRow(id=f"h-{digest}", digest=digest, holder="job") for digest in ("d", "e")])
        session.add(FileHoldRow(id="h-process", digest="d", holder="process", expires=2**40))
    with engine.execution_options(immediate=True).begin() as connection:
        config = alembic_config(connection)
        command.downgrade(config, "0009")
        command.upgrade(config, "head")
        rows = connection.execute(text("SELECT id, size_bytes FROM file_holds ORDER BY id")).all()
    assert rows == [("h-d", 7), ("h-e", None), ("h-process", None)]


def test_a_database_of_a_newer_headmix_is_refused_with_both_versions(empty_database_url: str) -> None:
    engine = open_database(empty_database_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(DatabaseUnusable, match=r"version 9999.*versions up to \d{4}"):
        open_database(empty_database_url)


def test_a_migrated_file_is_refused_by_the_first_headmix(tmp_path: Path) -> None:
    open_database(tmp_path / "headmix.db").dispose()
    with sqlite3.connect(tmp_path / "headmix.db") as connection:
        (mark,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    assert mark not in (0, 1)
