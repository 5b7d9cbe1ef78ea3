"""The ids that a query finds, when they may be a million: as one text, which is ten times as fast as row by row."""

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Select, Text, cast, select
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import aggregate_strings

Ids = NDArray[np.int64]


def read_ids(session: Session, query: Select[int]) -> Ids:
    """The ids that a query of one column finds, ascending."""
    found: ColumnElement[int] = query.subquery().c[0]
    return _parsed(session.scalar(select(_joined(found))))


def read_ids_by_part(session: Session, query: Select[str, int]) -> dict[str, Ids]:
    """Of a query of two columns, the ids of the second, ascending, by the value of the first."""
    part, found = query.subquery().c
    return {
        name: _parsed(text) for name, text in session.execute(select(part, _joined(found)).group_by(part))
    }


def _joined(ids: ColumnElement[int]) -> aggregate_strings:
    return aggregate_strings(cast(ids, Text), ",")


def _parsed(text: str | None) -> Ids:
    return np.sort(np.fromstring(text, np.int64, sep=",")) if text else np.empty(0, np.int64)
