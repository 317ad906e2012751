"""PostgreSQL: the engine, its measured pool, sessions, spans of statements, migrations."""
