"""The declarative base, and the `tenants` table that catalog and tenancy both refer to.

Knows nothing of the other tables: the code that opens the database imports the modules that declare them.
"""

from sqlalchemy import BigInteger, MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
"""Every constraint has a name, so that migrations can change it on every database."""


class Base(DeclarativeBase):
    """The base of all tables. Integers have 64 bits: times and sizes outgrow 32."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {int: BigInteger}  # noqa: RUF012 - SQLAlchemy reads it from the class


class Tenant(Base):
    """An owner of keys and adapters."""

    __tablename__ = "tenants"

    name: Mapped[str] = mapped_column(primary_key=True)
    created: Mapped[int]
