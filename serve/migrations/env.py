"""Alembic's entry: runs the revisions on the connection that serve.stores.database opened."""

from alembic import context

from serve.stores.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
context.run_migrations()
