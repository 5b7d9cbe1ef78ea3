"""Answers by control, for labeling configs that ask several things, and how far the annotators agree."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.add_column(sa.Column("agreement", sa.Double(), nullable=False, server_default="1"))
    # The next sync reads all tasks again and stores their answers by control; nothing looks at them before.
    op.execute("UPDATE projects SET synced_until = NULL")


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.drop_column("agreement")
    op.execute("UPDATE projects SET synced_until = NULL")
