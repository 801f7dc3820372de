"""How well a memory answers a query: the evidence, what each piece is worth, and their sum.

    points = cosine + LEXICAL * lexical + DATE * date + SPEAKER * speaker + form

cosine    of the query's vector and the memory's, -1..1
lexical   the share of the query's words that the memory and its neighbours have, each word by how
          rare it is in the user's memories, 0..1 (`lexical`)
date      1 if the memory is of a date that the query names (`dates`)
speaker   1 if the memory was said by the one person whom the query names (`speakers`)
form      STATEMENT if the memory is not a question, and LENGTH * ln(1 + its different words): who
          asks, or says little, rarely gives the answer

The weights were chosen on ten public long conversations, looked at in two halves, which agree. They
are flat: a fifth more or less of one moves recall@10 by about 0.01. `docs/decisions/0010` tells
what each part is worth.
"""

from dataclasses import dataclass

LEXICAL = 1.3
DATE = 0.3
SPEAKER = 0.2
STATEMENT = 0.1
LENGTH = 0.07

DECIMALS = 6
"""Points and scores are compared to so many decimals: rounding errors do not break a tie."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a memory was recalled: the points of each piece of evidence, as they were added up.

    `recency` is None unless the recall asked for it. `rerank` is the reranker's score, which is no
    part of the points; None where the memory was not reranked.
    """

    cosine: float
    lexical: float = 0.0
    date: float = 0.0
    speaker: float = 0.0
    form: float = 0.0
    recency: float | None = None
    rerank: float | None = None

    @property
    def points(self) -> float:
        evidence = self.cosine + self.lexical + self.date + self.speaker + self.form
        return evidence + (self.recency or 0.0)


def score(points: float, possible: float) -> float:
    """`points` as 0..1: 0 the opposite, 1 the same text, or another with all `possible` evidence.

    `possible` are the points that the query allows beyond those of the cosine: LEXICAL if it has
    words, DATE if it names one, SPEAKER if it names one. The form only breaks near ties, so it is
    not among them; what it adds above 1 is cut off.
    """
    return round(min(1.0, max(0.0, (1 + points) / (2 + possible))), DECIMALS)
