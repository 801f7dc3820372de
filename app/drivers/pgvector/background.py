"""Work in the background that asks the database."""

from app import background
from app.drivers.pgvector.errors import backend_errors


class Background(background.Background):
    """As its base, with asyncpg's errors as the service's own."""

    errors = staticmethod(backend_errors)
