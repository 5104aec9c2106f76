"""PostgreSQL: the only home of asyncpg."""
