"""Which of pgvector's types keeps a model's vectors."""

from app.errors import ConfigurationError

LARGEST_VECTOR = 2_000
"""Dimensions of a `vector` that pgvector can index, 4 bytes each."""
LARGEST_HALFVEC = 4_000
"""Dimensions of a `halfvec` that pgvector can index, 2 bytes each."""


def vector_type(dimension: int) -> str:
    """The type of an embedding column, such as `vector(384)`.

    asyncpg sends a numpy vector as either type, as the statement wants it. Raises
    `ConfigurationError` for more dimensions than pgvector can index.
    """
    if dimension > LARGEST_HALFVEC:
        raise ConfigurationError(
            f"MEMORY_EMBEDDING_MODEL: the model has {dimension} dimensions, and pgvector indexes "
            f"at most {LARGEST_HALFVEC}: choose another model"
        )
    return f"{'vector' if dimension <= LARGEST_VECTOR else 'halfvec'}({dimension})"
