"""Types of request fields: what they accept, PostgreSQL can store and compare."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints

__all__ = ["Id", "Line", "Moment", "Text"]

# A `bigint` of an identity column.
Id = Annotated[int, Field(ge=1, le=2**63 - 1)]
# PostgreSQL stores no NUL. A pattern refuses lone surrogates too, which are no UTF-8.
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
# Without control characters, line ends among them.
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("the moment is out of range in UTC") from None


# A `timestamptz`: with an offset, and within the years 1 to 9999 of UTC too.
Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
