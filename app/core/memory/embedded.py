"""What of a record is embedded, and what its vectors must be."""

from collections.abc import Sequence

import numpy as np

from app.core.memory.records import Memory, Record
from app.embedding import Vector
from app.errors import DriverError
from app.ranking.speakers import name_before, said


def text_of(record: Record) -> str:
    """What the record's vectors are made of."""
    return said(record.content, record.metadata) if isinstance(record, Memory) else record.content


def text_and_name(record: Record) -> tuple[str, str]:
    """`text_of`, and what each of its windows begins with, as `Embedder.embed_texts` takes them."""
    text = text_of(record)
    return text, name_before(text, record.metadata) if isinstance(record, Memory) else ""


def check_vectors(each: Sequence[Vector], dimension: int) -> None:
    """Raise `DriverError` for texts' vectors, shape (windows, dimension), that no search may meet.

    Those of a wrong length some backends keep and never find; NaN, infinite and zero ones spoil the
    searches of others, or are refused together with all else of their batch.
    """
    if any(own.ndim != 2 or own.shape[1] != dimension for own in each):
        raise DriverError(reason=f"a vector has not {dimension} dimensions")
    vectors = np.concatenate([np.zeros((0, dimension), np.float32), *each])
    if not np.isfinite(vectors).all() or not np.any(vectors, axis=1).all():
        raise DriverError(reason="a vector is zero, or not finite")
