"""What is pending of a document, over an answer that has a later put of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from app.core.memory.records import Knowledge
from app.wrappers.overlay import Overlay, came_amid

MOMENT = datetime(2026, 11, 30, tzinfo=UTC)


def piece(number: int, position: int | None, put: int) -> Knowledge:
    """A record of the put of that number, or stored alone where it has no position."""
    return Knowledge(
        knowledge_id=f"00000000-0000-4000-8000-{number:012}",
        content=f"put {put}",
        category="kitchen",
        doc_id="kettles",
        created_at=MOMENT + timedelta(seconds=put),
        position=position,
    )


PENDING = [piece(1, 0, put=4), piece(2, 1, put=4)]
OVERLAY = Overlay(
    MOMENT,
    kept={each.knowledge_id: each for each in PENDING},
    documents={"kettles": MOMENT + timedelta(seconds=3)},
)


def test_a_put_is_gone_where_the_answer_has_a_later_one() -> None:
    """The later one reached the driver after the journal was read, and had fewer pieces."""
    overlay = OVERLAY.since_put([piece(3, 0, put=5)])
    assert overlay.kept == {}
    assert overlay.hides(piece(4, 0, put=3))
    assert not overlay.hides(piece(3, 0, put=5))


def test_a_put_stays_where_the_answer_has_none_that_is_later() -> None:
    alone, earlier = piece(3, None, put=5), piece(4, 0, put=3)
    other = replace(piece(5, 0, put=5), doc_id="pans")
    for found in ([], [alone], [earlier], [other], [alone, earlier, other], PENDING):
        assert OVERLAY.since_put(found).kept == OVERLAY.kept


def test_what_was_stored_alone_stays_whatever_was_put_later() -> None:
    alone = piece(6, None, put=4)
    overlay = replace(OVERLAY, kept={**OVERLAY.kept, alone.knowledge_id: alone})
    assert overlay.since_put([piece(3, 0, put=5)]).kept == {alone.knowledge_id: alone}


def test_what_is_pending_of_another_document_stays() -> None:
    """As an import of an old record of a document that was put since, beside a put of another."""
    old = replace(piece(7, 0, put=1), doc_id="pans")
    overlay = replace(OVERLAY, kept={**OVERLAY.kept, old.knowledge_id: old})
    later = replace(piece(8, 0, put=2), doc_id="pans")
    assert overlay.since_put([later]).kept == overlay.kept


def test_a_put_came_amid_answers_where_a_later_one_has_more() -> None:
    old, new = piece(1, 0, put=1), piece(2, 1, put=2)
    assert came_amid([[old], [new]])
    assert not came_amid([[old, new]])
    assert not came_amid([[new], [old]])
    assert not came_amid([[], [old], [piece(3, None, put=2)]])
