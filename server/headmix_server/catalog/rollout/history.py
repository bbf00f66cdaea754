"""The order in which an adapter's versions became current, which a rollback follows backwards."""

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from headmix_server.catalog.tables import AdapterRow, PromotionRow
from headmix_server.core.errors import InvalidRequest


def promote(session: Session, adapter: AdapterRow, number: int) -> None:
    """Make a version current."""
    position = session.scalar(
        select(func.coalesce(func.max(PromotionRow.position), 0) + 1).where(PromotionRow.adapter_id == adapter.id)
    )
    session.add(PromotionRow(adapter_id=adapter.id, position=position, number=number))
    adapter.current = number


def undo(session: Session, adapter: AdapterRow) -> int:
    """Make the version that was current before this one current again, and return its number.

    Raises:
        InvalidRequest: there was none.
    """
    # Versions removed from the history may have stood between two promotions of the same version.
    before = session.scalars(
        select(PromotionRow)
        .where(PromotionRow.adapter_id == adapter.id, PromotionRow.number != adapter.current)
        .order_by(PromotionRow.position.desc())
        .limit(1)
    ).one_or_none()
    if before is None:
        raise InvalidRequest(f"No version of {adapter.name!r} was current before this one.", param="version")
    session.execute(
        delete(PromotionRow).where(PromotionRow.adapter_id == adapter.id, PromotionRow.position > before.position)
    )
    adapter.current = before.number
    return before.number


def strike(session: Session, adapter: AdapterRow, number: int | None = None) -> None:
    """Remove one version, or all, from the history: no rollback reaches them any more."""
    gone = delete(PromotionRow).where(PromotionRow.adapter_id == adapter.id)
    session.execute(gone if number is None else gone.where(PromotionRow.number == number))
