"""Candidates of a scope: of one conversation, without some tags."""

from collections.abc import Callable, Collection, Iterable

import numpy as np

from app.ranking.candidates import Candidates
from app.ranking.outlines import number_of


def within(
    candidates: Candidates,
    conversation_id: str | None,
    exclude_tags: Collection[str],
    tags_of: Callable[[bytes], Iterable[str]],
) -> Candidates:
    """Those of the conversation, if one is given, that have none of the tags.

    `tags_of` gives the tags of a memory by its id, 16 bytes; it is asked only where some are
    excluded.
    """
    if conversation_id is None and not exclude_tags:
        return candidates
    mask = np.ones(len(candidates), np.bool_)
    if conversation_id is not None:
        mask &= candidates.conversation == number_of(conversation_id)
    if exclude_tags:
        excluded = set(exclude_tags)
        keys = candidates.keys(np.arange(len(candidates)))
        mask &= np.array([excluded.isdisjoint(tags_of(key)) for key in keys], np.bool_)
    return candidates.taken(np.flatnonzero(mask))
