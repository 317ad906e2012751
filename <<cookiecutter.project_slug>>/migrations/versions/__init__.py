"""One file for each version of the schema; alembic finds their order in the files themselves."""
