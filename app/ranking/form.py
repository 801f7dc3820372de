"""Form: who asks rarely gives the answer."""

_QUESTION_MARKS = ("?", "\uff1f", "\u061f")


def asks(content: str) -> bool:
    """Whether the content ends as a question, with an ASCII, full-width or Arabic question mark."""
    return content.rstrip().endswith(_QUESTION_MARKS)
