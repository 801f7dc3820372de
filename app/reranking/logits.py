"""Scores as models give them before the last step."""

import math


def logistic(logit: float) -> float:
    """1 / (1 + exp(-logit)), without an overflow."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    power = math.exp(logit)
    return power / (1 + power)
