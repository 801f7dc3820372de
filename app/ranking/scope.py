"""Candidates of a scope: alive, of one conversation, and as a filter has them."""

from datetime import datetime

import numpy as np

from app.ranking.candidates import Candidates, Mask
from app.ranking.outlines import microseconds, number_of


def within(
    candidates: Candidates,
    now: datetime,
    conversation_id: str | None = None,
    admitted: Mask | None = None,
) -> Candidates:
    """Those that have not expired `now`, of the conversation if one is given, and `admitted`."""
    mask = (candidates.expires == 0) | (candidates.expires > microseconds(now))
    if conversation_id is not None:
        mask &= candidates.conversation == number_of(conversation_id)
    if admitted is not None:
        mask &= admitted
    return candidates if mask.all() else candidates.taken(np.flatnonzero(mask))
