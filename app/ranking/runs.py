"""Text as PostgreSQL's parser of words can take it: in a time that grows with its length."""

import re

_MARKS = 16
_AT_SIGNS = 1
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")
_RUN = re.compile(rf"\S{{{2 * (_AT_SIGNS + 1)},}}")
_COMMENT = "<!--"


def parsable(text: str) -> str:
    """`text`, with a space for each ASCII mark of a run of characters that has too many, and for
    those that begin a comment of HTML.

    After each mark the parser looks again how far an address, a path or a compound may reach: up to
    the next white space. In a run of n marks that is n times the run. Addresses that people write
    have up to 16 marks, and one @: they stay whole. At each start of a comment it looks for the end
    of one, up to the text's: n times the text.
    """
    return _RUN.sub(_apart, text.replace(_COMMENT, " " * len(_COMMENT)))


def _apart(run: re.Match[str]) -> str:
    apart, marks = _PUNCTUATION.subn(" ", run[0])
    return apart if marks > _MARKS or run[0].count("@") > _AT_SIGNS else run[0]
