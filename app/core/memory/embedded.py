"""What of a record is embedded."""

from app.core.memory.records import Memory, Record
from app.ranking.speakers import name_before, said


def text_of(record: Record) -> str:
    """What the record's vectors are made of."""
    return said(record.content, record.metadata) if isinstance(record, Memory) else record.content


def text_and_name(record: Record) -> tuple[str, str]:
    """`text_of`, and what each of its windows begins with, as `Embedder.embed_texts` takes them."""
    text = text_of(record)
    return text, name_before(text, record.metadata) if isinstance(record, Memory) else ""
