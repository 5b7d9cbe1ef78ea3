"""What the dashboard shows and does: pausing, previews, a round's log, predictions in the queue."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


# Not in batches, which copy a table and drop the old one: that would take the tasks of the projects along.
def upgrade() -> None:
    """Apply."""
    op.add_column("projects", sa.Column("paused", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("projects", sa.Column("preview", sa.JSON(none_as_null=True)))
    op.add_column("rounds", sa.Column("log", sa.Text(), nullable=False, server_default=""))
    op.add_column("queue", sa.Column("prediction", sa.JSON(none_as_null=True)))


def downgrade() -> None:
    """Take back."""
    op.drop_column("queue", "prediction")
    op.drop_column("rounds", "log")
    op.drop_column("projects", "preview")
    op.drop_column("projects", "paused")
