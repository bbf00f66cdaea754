"""The catalog's tables: artifacts, adapters, their versions, the order in which versions became current, and what an
adapter may have next to them: those it is shared with, a canary, a pin.

Rows only; the rules they keep are `catalog`'s.
"""

from sqlalchemy import BigInteger, ForeignKey, Integer, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from headmix_server.database import Base


class ArtifactRow(Base):
    """An artifact whose bytes are stored: there from before its first version until after its last tombstone.

    `base` is the fingerprint of the base it was accepted for.
    """

    __tablename__ = "artifacts"

    digest: Mapped[str] = mapped_column(primary_key=True)
    base: Mapped[str] = mapped_column(server_default="")
    size_bytes: Mapped[int]
    created: Mapped[int]


class DescriptionRow(Base):
    """What an artifact's header holds for people alone, apart from what requests read: examples and `training` as JSON.

    `training` is null where it is larger or deeper than is shown, which only artifacts of before there were bounds are.
    """

    __tablename__ = "descriptions"

    digest: Mapped[str] = mapped_column(ForeignKey("artifacts.digest"), primary_key=True)
    examples: Mapped[str]
    training: Mapped[str | None]
    created_by: Mapped[str]


class IdentityRow(Base):
    """The one row that tells this catalog from any other, by a random text; a bucket's owner is known by it.

    `base` is the fingerprint of the base that the catalog's adapters were accepted for, `base_name` what it was last
    called; null until a server has opened the catalog.
    """

    __tablename__ = "identity"

    id: Mapped[str] = mapped_column(primary_key=True)
    base: Mapped[str | None]
    base_name: Mapped[str | None]


class AdapterRow(Base):
    """A tenant's name. Outlives its deletion (`current` null), so that `last` keeps version numbers unique forever."""

    __tablename__ = "adapters"
    __table_args__ = (UniqueConstraint("tenant", "name"),)

    # SQLite numbers rows by itself only where the key is a plain INTEGER, which has 64 bits there.
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"))
    name: Mapped[str]
    current: Mapped[int | None]
    last: Mapped[int]


class VersionRow(Base):
    """One version: which artifact it is, and the artifact's header as JSON, less what is for people alone.

    Only `state` ever changes. `config_bytes` is the size of `config`, so that a page can be bounded before it is read.

    A deleted one is a tombstone: it keeps the artifact until nothing uses it any more, and goes with its bytes.
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
    """One change of what is current; the last one of an adapter is what is current now."""

    __tablename__ = "promotions"

    adapter_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("adapters.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]


class ShareRow(Base):
    """An adapter that a tenant, or everyone (`*`), may use besides its owner.

    `owner` and `name` are the adapter's, here again: what is not shared is looked for in this table alone, so it is
    missed by the same work whether it exists or not.
    """

    __tablename__ = "shares"

    grantee: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    adapter_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("adapters.id"), index=True)


class CanaryRow(Base):
    """A second version of a name, which gets a percentage of the requests that name no version."""

    __tablename__ = "canaries"

    adapter_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("adapters.id"), primary_key=True)
    number: Mapped[int]
    percent: Mapped[int]


class PinRow(Base):
    """A name whose current version stays on the device."""

    __tablename__ = "pins"

    adapter_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("adapters.id"), primary_key=True)
