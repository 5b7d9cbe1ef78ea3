"""The metadata of tasks, for strategies that balance by it."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("groups", sa.JSON(none_as_null=True), nullable=False, server_default="{}")
        )
    # So that the next sync reads all tasks again, with their metadata.
    op.execute("UPDATE projects SET synced_until = NULL")


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.drop_column("groups")
