"""The catalog's tables: artifacts, adapters, their versions, the order in which versions became current, an adapter's
optional shares, canary and pin, and what tenants store beside their adapters: files, and files that arrive in parts.

Rows only; `catalog` owns their rules.
"""

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from headmix_server.database import Base


class ArtifactRow(Base):
    """An artifact with stored bytes; the row exists from before its first version until after its last tombstone.

    `base` is the fingerprint of the base it was accepted for.
    """

    __tablename__ = "artifacts"

    digest: Mapped[str] = mapped_column(primary_key=True)
    base: Mapped[str] = mapped_column(server_default="")
    size_bytes: Mapped[int]
    created: Mapped[int]


class DescriptionRow(Base):
    """The parts of an artifact's header that only people read, apart from what requests read: examples and `training`.

    Both are JSON. `training` is null if it is too large or too deep to show, which only predates the bounds on uploads.
    """

    __tablename__ = "descriptions"

    digest: Mapped[str] = mapped_column(ForeignKey("artifacts.digest"), primary_key=True)
    examples: Mapped[str]
    training: Mapped[str | None]
    created_by: Mapped[str]


class IdentityRow(Base):
    """The single row that identifies this catalog, by a random text; it also marks the catalog as a bucket's owner.

    `base` is the fingerprint of the base that the catalog's adapters were accepted for, `base_name` its last known
    name; both are null until a server has opened the catalog.
    """

    __tablename__ = "identity"

    id: Mapped[str] = mapped_column(primary_key=True)
    base: Mapped[str | None]
    base_name: Mapped[str | None]


class AdapterRow(Base):
    """A tenant's name. The row outlives a deletion (`current` null), so `last` keeps version numbers unique forever."""

    __tablename__ = "adapters"
    __table_args__ = (UniqueConstraint("tenant", "name"),)

    # SQLite only assigns keys by itself if the column is a plain INTEGER, which has 64 bits there.
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"))
    name: Mapped[str]
    current: Mapped[int | None]
    last: Mapped[int]


class VersionRow(Base):
    """One version: its artifact, and the artifact's header as JSON without the parts meant only for people.

    Only `state` ever changes. `config_bytes` is the size of `config`, so that a page can be bounded before it is read.

    A deleted version is a tombstone: it keeps the artifact until nothing uses it, and is removed with the bytes.
    """

    __tablename__ = "versions"

    adapter_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("adapters.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(ForeignKey("artifacts.digest"), index=True)
    state: Mapped[str]
    size_bytes: Mapped[int]
    num_parameters: Mapped[int]
    config: Mapped[str]
    config_bytes: Mapped[int]
    created: Mapped[int]


class PromotionRow(Base):
    """One change of the current version; an adapter's last one is its current version."""

    __tablename__ = "promotions"

    adapter_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("adapters.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]


class ShareRow(Base):
    """An adapter that a tenant, or everyone (`*`), may use besides its owner.

    `owner` and `name` duplicate the adapter's: looking up an adapter that is not shared reads only this table, so it
    takes the same work whether the adapter exists or not.
    """

    __tablename__ = "shares"

    grantee: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    adapter_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("adapters.id"), index=True)


class CanaryRow(Base):
    """A second version of a name, which serves a percentage of the requests that name no version."""

    __tablename__ = "canaries"

    adapter_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("adapters.id"), primary_key=True)
    number: Mapped[int]
    percent: Mapped[int]


class PinRow(Base):
    """A name whose current version stays on the device."""

    __tablename__ = "pins"

    adapter_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("adapters.id"), primary_key=True)


class FileRow(Base):
    """A tenant's file. It is here because a tenant's quota counts the bytes of its artifacts and files together.

    `digest` says where its bytes are; several rows may share them. Times are Unix seconds; from `expires` on, the file
    does not exist any more.
    """

    __tablename__ = "files"
    __table_args__ = (Index(None, "tenant", "created", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"))
    purpose: Mapped[str]
    filename: Mapped[str]
    digest: Mapped[str] = mapped_column(index=True)
    size_bytes: Mapped[int]
    created: Mapped[int]
    expires: Mapped[int | None] = mapped_column(index=True)


class UploadRow(Base):
    """A file that arrives in parts: `size_bytes` in all, as its creator announced, which the tenant's quota counts.

    `lifetime` is how many seconds the file will exist, if not for good. Times are Unix seconds.
    """

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"), index=True)
    purpose: Mapped[str]
    filename: Mapped[str]
    mime_type: Mapped[str]
    size_bytes: Mapped[int]
    lifetime: Mapped[int | None]
    state: Mapped[str]
    file_id: Mapped[str | None]
    created: Mapped[int]
    expires: Mapped[int] = mapped_column(index=True)
