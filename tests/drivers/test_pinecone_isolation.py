"""No name, filter or record of Pinecone's mixes two owners up, whatever their ids are."""

from itertools import combinations

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import NewMemory
from app.drivers.pinecone import PineconeDriver
from app.embedding import Embedder
from app.settings import Limits, PineconeSettings
from tests.conformance.cases import WAYS
from tests.conformance.test_isolation import everything_found
from tests.drivers.conftest import OpenPinecone
from tests.drivers.pinecone_fake import KEY, FakePinecone
from tests.drivers.resident import Chance

LONG = "x" * 4_095
IDS = [
    "ada", "Ada", "ada ", " ada", "ada,bob", "bob,ada", "ada|bob", "ada,", ",ada", "|", "$in",
    "{}", "*", "k", "-", "memory-k", "\x01", "\x7f", "\n", "é", "e\u0301", "\u212b", "Å",
    "A\u030a", "\ufb00", "ff", "ﬀ ", "İ", "i", "\u0131", "\U0001f600", LONG + "a", LONG + "b",
]  # fmt: skip


@pytest.fixture
async def long_ids(index: FakePinecone, embedder: Embedder) -> RecordDriver:
    """A driver whose users' ids may have 4,096 bytes."""
    settings = PineconeSettings(host=index.url, api_key=SecretStr(KEY))
    limits = Limits(user_id_chars=4_096, conversation_id_chars=4_096, tag_chars=4_096)
    driver = PineconeDriver(settings, Chance(embedder.dimension), limits)
    await driver.open()
    return driver


async def test_no_two_ids_share_anything(long_ids: RecordDriver) -> None:
    assert len(set(IDS)) == len(IDS)
    await long_ids.store_many(
        [
            NewMemory(user_id=one, content=f"a secret of {n}", conversation_id="shared", tags=[one])
            for n, one in enumerate(IDS)
        ]
    )
    for n, one in enumerate(IDS):
        found = await everything_found(long_ids, one)
        assert {memory.user_id for memory in found} == {one}
        assert {memory.content for memory in found} == {f"a secret of {n}"}
    page = await long_ids.list_users(limit=100)
    assert [each.user_id for each in page.users] == sorted(IDS)
    for one in IDS[::2]:
        assert await long_ids.delete_user(one) == 1
    assert [each.user_id for each in (await long_ids.list_users(limit=100)).users] == sorted(
        IDS[1::2]
    )
    await long_ids.close()


async def test_no_two_conversations_or_tags_of_a_user_are_mixed_up(long_ids: RecordDriver) -> None:
    await long_ids.store_many(
        [
            NewMemory(user_id="ada", content="a kettle", conversation_id=one, tags=[one])
            for one in IDS
        ]
    )
    for one in IDS:
        for way in WAYS:
            [memory] = await long_ids.recall("ada", one, **way)
            assert memory.conversation_id == one
            [memory] = await long_ids.recall("ada", filter={"tags": {"any": [one]}}, **way)
            assert memory.tags == [one]
    for one, other in list(combinations(IDS, 2))[::40]:
        found = await long_ids.recall("ada", exclude_tags=[one, other], top_k=100)
        assert len(found) == len(IDS) - 2
    await long_ids.close()


@pytest.mark.parametrize("missing_differs", [True, False])
async def test_what_a_missing_field_means_makes_no_difference(
    pinecone: PineconeDriver, index: FakePinecone, missing_differs: bool
) -> None:
    index.missing_differs = missing_differs
    await pinecone.store("ada", "a kettle")
    await pinecone.store("ada", "a kettle", tags=["x"])
    await pinecone.store("ada", "a kettle", "c", tags=["y"])
    index.time += 200
    for way in WAYS[:2]:
        found = await pinecone.recall("ada", exclude_tags=["x"], **way)
        assert {memory.tags == ["x"] for memory in found} == {False}
        assert len(found) == 2


async def test_another_owner_s_vector_in_a_namespace_is_reported_and_not_shown(
    open_pinecone: OpenPinecone, index: FakePinecone
) -> None:
    driver = await open_pinecone()
    ada = await driver.store("ada", "a kettle of ada's")
    await driver.store("bob", "a kettle of bob's")
    index.time += 200
    spaces = {name: space for name, space in index.spaces.items() if name.startswith("memory-u-")}
    (first, mine), (second, yours) = spaces.items()
    heads = {one: each for space in (mine, yours) for one, each in space.now.items()}
    mine.now.update(heads)
    yours.now.update(heads)
    assert first != second
    other = await open_pinecone()
    with capture_logs() as logs:
        assert await other.get(ada.memory_id, "bob") is None
        assert not await other.delete(ada.memory_id, "bob")
    assert {entry["event"] for entry in logs} == {"another_owners_record"}
    for user in ("ada", "bob"):
        assert {memory.user_id for memory in await everything_found(other, user)} == {user}


async def test_no_id_of_a_caller_s_is_in_a_name_a_filter_or_an_id_of_pinecone_s(
    pinecone: PineconeDriver, index: FakePinecone
) -> None:
    secret = "zebrafish"  # noqa: S105 - what is looked for
    memory = await pinecone.store(f"{secret} 1", "a kettle", f"{secret} 2", [f"{secret} 3"])
    await pinecone.store_global_knowledge("a pan", f"{secret} 4", doc_id=f"{secret} 5")
    await pinecone.put_document(f"{secret} 6", category=f"{secret} 7", pieces=["one"])
    await pinecone.recall(
        memory.user_id, memory.conversation_id, "kettle", exclude_tags=[f"{secret} 8"]
    )
    await pinecone.recall_global_knowledge("pan", category=f"{secret} 4", doc_id=f"{secret} 5")
    await pinecone.list_users()
    await pinecone.delete_user(memory.user_id)
    assert secret not in str(index.asked)
    assert secret not in str(index.vectors())
