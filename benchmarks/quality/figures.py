"""Recall, nDCG and MRR of ranked ids against the right ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from statistics import mean

DEPTH = 20
"""How many are recalled for each query."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Means over queries, each 0..1, higher is better."""

    recall_5: float
    recall_10: float
    recall_20: float
    ndcg_10: float
    mrr: float


def figures(answers: Sequence[tuple[Sequence[str], Sequence[str]]]) -> Figures:
    """The figures of (found, gold) for each query."""
    return Figures(
        recall_5=mean(recall(found, gold, 5) for found, gold in answers),
        recall_10=mean(recall(found, gold, 10) for found, gold in answers),
        recall_20=mean(recall(found, gold, 20) for found, gold in answers),
        ndcg_10=mean(ndcg(found, gold, 10) for found, gold in answers),
        mrr=mean(reciprocal_rank(found, gold) for found, gold in answers),
    )


def recall(found: Sequence[str], gold: Sequence[str], k: int) -> float:
    """The share of the right ones among the first `k`."""
    return len(set(found[:k]) & set(gold)) / len(set(gold))


def ndcg(found: Sequence[str], gold: Sequence[str], k: int) -> float:
    """Discounted cumulative gain, every right one worth 1, over the best possible."""
    right = set(gold)
    gain = sum(1 / log2(rank + 2) for rank, one in enumerate(found[:k]) if one in right)
    return gain / sum(1 / log2(rank + 2) for rank in range(min(k, len(right))))


def reciprocal_rank(found: Sequence[str], gold: Sequence[str]) -> float:
    """1 over the place of the first right one; 0 if there is none."""
    right = set(gold)
    return next((1 / rank for rank, one in enumerate(found, start=1) if one in right), 0.0)
