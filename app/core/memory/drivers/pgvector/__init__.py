"""The pgvector driver: PostgreSQL with the extension pgvector, over asyncpg."""

from app.core.memory.drivers.pgvector.driver import PgvectorDriver

__all__ = ["PgvectorDriver"]
