"""Run by Alembic: brings the schema up to date over the connection that `Database.migrate` gives."""

from alembic import context

from backend.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
    user_module_prefix="tables.",
)
context.run_migrations()
