"""The table."""

from decimal import Decimal

from sqlalchemy import BigInteger, CheckConstraint, Identity, Numeric, String, true
from sqlalchemy.orm import Mapped, mapped_column

from slipway_kit.db import Model


class Game(Model):
    """A title that the shop sells; the constraints repeat the schema for every other writer."""

    __tablename__ = "games"
    __table_args__ = (CheckConstraint("price > 0", name="price_positive"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    in_stock: Mapped[bool] = mapped_column(server_default=true())
