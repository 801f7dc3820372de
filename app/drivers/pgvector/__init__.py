"""The pgvector driver: PostgreSQL with the extension pgvector, over asyncpg."""

from app.drivers.pgvector.driver import PgvectorDriver

__all__ = ["PgvectorDriver"]
