"""What the dashboard shows and does: pausing, previews, a round's log, predictions in the queue."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ADDED: dict[str, tuple[sa.Column[Any], ...]] = {
    "projects": (
        sa.Column("paused", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("preview", sa.JSON(none_as_null=True), nullable=True),
    ),
    "rounds": (sa.Column("log", sa.Text(), nullable=False, server_default=""),),
    "queue": (sa.Column("prediction", sa.JSON(none_as_null=True), nullable=True),),
}


# Not in batches, which copy a table and drop the old one: that would take the tasks of the projects along.
def upgrade() -> None:
    """Apply."""
    for table, columns in ADDED.items():
        for column in columns:
            op.add_column(table, column.copy())


def downgrade() -> None:
    """Take back."""
    for table, columns in ADDED.items():
        for column in columns:
            op.drop_column(table, column.name)
