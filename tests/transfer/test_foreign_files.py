"""Files of other programs, in the shapes that these write."""

import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Knowledge, Memory
from app.drivers.inmemory import InMemoryDriver
from app.embedding import Embedder
from app.errors import InvalidInput
from app.settings import Limits
from app.transfer.foreign.forms import records_in
from app.transfer.foreign.mapping import Said, moment_of
from app.transfer.importing import import_records
from tests.transfer.records import by_place, every_record

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def read(
    form: str, content: str, name: str = "x", maps: Sequence[str] = (), sets: Sequence[str] = ()
) -> list[Memory | Knowledge]:
    file = io.BytesIO(content.encode())
    lines = records_in(form, file, name, Said.of(maps, sets), NOW, Limits())
    return [line.record for line in lines]


MEM0 = {
    "count": 2,
    "next": None,
    "previous": None,
    "results": [
        {
            "id": "3c90c3cc-0d44-4b50-8888-8dd25736052a",
            "memory": "Dev works at TechCorp as a senior engineer",
            "user_id": "dev",
            "agent_id": None,
            "app_id": "desk",
            "run_id": "call-7",
            "hash": "8f14e45fceea167a5a36dedd4bea2543",
            "metadata": {"type": "professional"},
            "categories": ["work", "career"],
            "created_at": "2025-11-07T05:31:56.123456-08:00",
            "updated_at": "2025-11-08T05:31:56-08:00",
        },
        {
            "id": "3c90c3cc-0d44-4b50-8888-8dd25736052b",
            "memory": "Dev likes tea",
            "user_id": "dev",
            "metadata": None,
            "categories": None,
            "created_at": "2025-11-07T05:31:56Z",
            "updated_at": None,
        },
    ],
}


def test_what_mem0_exports() -> None:
    for content in (json.dumps(MEM0), json.dumps(MEM0["results"], indent=4), "\ufeff[]"):
        found = read("mem0", content)
        if content == "\ufeff[]":
            assert found == []
            continue
        first, second = found
        assert first == Memory(
            memory_id="3c90c3cc-0d44-4b50-8888-8dd25736052a",
            user_id="dev",
            content="Dev works at TechCorp as a senior engineer",
            conversation_id="call-7",
            tags=["work", "career"],
            metadata={
                "app_id": "desk",
                "hash": "8f14e45fceea167a5a36dedd4bea2543",
                "type": "professional",
            },
            created_at=datetime(2025, 11, 7, 13, 31, 56, 123456, tzinfo=UTC),
            updated_at=datetime(2025, 11, 8, 13, 31, 56, tzinfo=UTC),
        )
        assert second.metadata == {}


def test_a_page_of_several_is_refused() -> None:
    page = MEM0 | {"next": "https://api.mem0.ai/v2/memories/?page=2"}
    with pytest.raises(InvalidInput, match="one page of several"):
        read("mem0", json.dumps(page))


def test_what_openmemory_backs_up() -> None:
    lines: list[dict[str, Any]] = [
        {
            "id": "3c90c3cc-0d44-4b50-8888-8dd25736052a",
            "content": "Dev likes tea",
            "metadata": {},
            "created_at": "2025-11-07T05:31:56+00:00",
            "updated_at": "2025-11-07T05:31:56+00:00",
            "state": state,
            "app": "openmemory",
            "categories": ["tea"],
        }
        for state in ("active", "deleted")
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines)
    [record] = read("mem0", content, "memories.jsonl.gz", sets=["user_id=dev"])
    assert isinstance(record, Memory)
    assert (record.user_id, record.tags) == ("dev", ["tea"])
    assert record.metadata == {"state": "active", "app": "openmemory"}
    with pytest.raises(InvalidInput, match=r"line 1: whose memory it is does not show"):
        read("mem0", content, "memories.jsonl.gz")


AUTOMEM = {
    "timestamp": "20260508_135600",
    "graph_name": "memories",
    "nodes": [
        {
            "id": 0,
            "labels": ["Memory"],
            "properties": {
                "id": "0b46c936-9d5c-4d0f-a1c3-0d8fcb6d0a11",
                "content": "The kettle is copper.",
                "tags": ["home", "entity:tools:kettle"],
                "tag_prefixes": ["home", "entity", "entity:tools"],
                "importance": 0.5,
                "type": "Preference",
                "confidence": 0.6,
                "timestamp": "2026-05-08T13:56:00+00:00",
                "updated_at": "2026-05-09T13:56:00+00:00",
                "last_accessed": "2026-05-10T13:56:00+00:00",
                "metadata": '{"owner": "ada", "n": 1}',
            },
        },
        {"id": 1, "labels": ["Entity"], "properties": {"name": "kettle"}},
    ],
    "relationships": [{"source_id": 0, "type": "REFERENCED_IN", "target_id": 1, "properties": {}}],
    "stats": {"node_count": 2, "relationship_count": 1},
}


def test_what_automem_backs_up() -> None:
    content = json.dumps(AUTOMEM, indent=2)
    [record] = read("automem", content, maps=["user_id=metadata.owner"])
    assert record == Memory(
        memory_id="0b46c936-9d5c-4d0f-a1c3-0d8fcb6d0a11",
        user_id="ada",
        content="The kettle is copper.",
        tags=["home", "entity:tools:kettle"],
        metadata={
            "importance": 0.5,
            "type": "Preference",
            "confidence": 0.6,
            "owner": "ada",
            "n": 1,
        },
        created_at=datetime(2026, 5, 8, 13, 56, tzinfo=UTC),
        updated_at=datetime(2026, 5, 9, 13, 56, tzinfo=UTC),
    )
    ours = content.replace('{\\"owner\\": \\"ada\\", \\"n\\": 1}', '{\\"mds\\": {}}')
    assert ours != content
    with pytest.raises(InvalidInput, match="use memory-driver copy"):
        read("automem", ours, sets=["user_id=ada"])


LANGGRAPH = (
    "prefix,key,value,created_at,updated_at,expires_at,ttl_minutes\r\n"
    'memories.ada,m1,"{""content"": ""Ada likes tea, and hot"", ""kind"": ""fact""}",'
    "2025-11-07 05:31:56.123456+00,2025-11-08 05:31:56+00,,\r\n"
)


def test_what_langgraph_stores() -> None:
    row = {
        "prefix": "memories.ada",
        "key": "m1",
        "value": {"kind": "Memory", "content": {"content": "Ada likes tea"}},
        "created_at": "2025-11-07T05:31:56.123456+00:00",
        "updated_at": "2025-11-07T05:31:56.123456+00:00",
        "expires_at": "2125-11-07T05:31:56+00:00",
        "ttl_minutes": 60,
    }
    item = {
        "namespace": ["memories", "bob"],
        "key": "m1",
        "value": {"rules": ["short", "direct"], "my-key": "my-value"},
        "created_at": "2025-11-07T05:31:56+00:00",
        "updated_at": "2025-11-07T05:31:56+00:00",
    }
    content = json.dumps(row) + "\n\n" + json.dumps(item) + "\n"
    first, second = read("langgraph", content, "store.jsonl", maps=["user_id=namespace.1"])
    assert isinstance(first, Memory)
    assert isinstance(second, Memory)
    assert (first.user_id, first.content) == ("ada", "Ada likes tea")
    assert first.metadata == {
        "kind": "Memory",
        "langgraph": {"namespace": ["memories", "ada"], "key": "m1"},
    }
    assert first.expires_at == datetime(2125, 11, 7, 5, 31, 56, tzinfo=UTC)
    assert (second.user_id, json.loads(second.content)) == ("bob", item["value"])
    assert first.memory_id != second.memory_id
    assert read("langgraph", content, "x", ["user_id=namespace.1"]) == [first, second]


def test_langgraphs_table_as_csv() -> None:
    [record] = read("langgraph", LANGGRAPH, "store.csv.gz", maps=["user_id=namespace.1"])
    assert isinstance(record, Memory)
    assert (record.user_id, record.content) == ("ada", "Ada likes tea, and hot")
    assert record.metadata["kind"] == "fact"
    assert record.created_at == datetime(2025, 11, 7, 5, 31, 56, 123456, tzinfo=UTC)


async def test_a_plain_csv(embedder: Embedder) -> None:
    content = (
        "who,note,when,labels,mood,position\n"
        'ada,"tea, ""hot""\nand strong",2026-05-08 13:56:00+02:00,"home, tea",good,3\n'
        "bob,coffee,1715169360,,,\n"
    )
    maps = ["user_id=who", "content=note", "occurred_at=when", "tags=labels"]
    first, second = read("csv", content, "notes.csv", maps, ["conversation_id=import"])
    assert isinstance(first, Memory)
    assert isinstance(second, Memory)
    assert (first.user_id, first.content) == ("ada", 'tea, "hot"\nand strong')
    assert first.occurred_at.isoformat() == "2026-05-08T13:56:00+02:00"
    assert (first.tags, first.conversation_id) == (["home", "tea"], "import")
    assert first.metadata == {"mood": "good", "position": 3}
    assert (second.tags, second.metadata) == ([], {})
    assert first.created_at == NOW
    again = read("csv", content, "notes.csv", maps, ["conversation_id=import"])
    assert again == [first, second]
    driver: RecordDriver = InMemoryDriver(embedder, Limits())
    for _ in range(2):
        lines = records_in(
            "csv",
            io.BytesIO(content.encode()),
            "notes.csv",
            Said.of(maps, ["conversation_id=import"]),
            NOW,
            Limits(),
        )
        told = await import_records(driver, lines)
        assert told.kept.memories == 2
    assert by_place(await every_record(driver)) == by_place([first, second])


def test_plain_lines_and_knowledge() -> None:
    lines: list[dict[str, Any]] = [
        {"category": "tea", "content": "Tea steeps.", "title": "T", "position": 2, "doc_id": "d"},
        {"user_id": "ada", "memory_id": "7", "content": "x", "metadata": {"a": 1}, "b": 2},
    ]
    content = "\n".join(map(json.dumps, lines))
    first, second = read("jsonl", content)
    assert isinstance(first, Knowledge)
    assert (first.position, first.doc_id, first.title) == (2, "d", "T")
    assert isinstance(second, Memory)
    assert second.metadata == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("form", "content", "said"),
    [
        ("csv", "user_id,content\nada\n", "line 2: the row has not as many cells"),
        ("csv", "user_id,content\nada,x,y\n", "line 2: the row has not as many cells"),
        ("csv", 'user_id,content\nada,"x\n', "unexpected end of data"),
        ("csv", "user_id,content\nada,\n", "line 2: content must not be empty"),
        ("csv", "user_id,content,tags\nada,x,[1\n", "line 2: invalid JSON"),
        ("csv", "user_id,content,created_at\nada,x,noon\n", "line 2: created_at is no moment"),
        ("jsonl", "{}\n[]\n", "line 1: whose memory"),
        ("jsonl", '{"user_id":"ada","content":"x"}\n7\n', "line 2: it is no JSON object"),
        ("jsonl", "{\n", "line 1: invalid JSON"),
        ("mem0", "", "the file is cut"),
        ("mem0", "7", "the file is no JSON document"),
        ("mem0", "{}", "the document has no list 'results'"),
        ("mem0", '{"results": [{"id": "x", "memory": "y"', "invalid JSON, or the file is cut"),
        ("mem0", '{"results": [{"user_id": "a", "memory": "y"}', "the file is cut"),
        ("mem0", '{"results": [7]}', "results[0]: it is no JSON object"),
        ("automem", '{"nodes": {}}', "the document has no list 'nodes'"),
        ("langgraph", '{"key": "x"}', "line 1: a row of the store has a prefix"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(form: str, content: str, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(form, content)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "text", ["user_id", "user_id=", "=x", "nobody=x", "request=x", "vectors=x"]
)
def test_what_the_operator_says_is_a_field_and_something(text: str) -> None:
    for maps, sets in (([text], []), ([], [text])):
        with pytest.raises(InvalidInput, match="is not FIELD="):
            Said.of(maps, sets)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("2026-05-08T13:56:00Z", "2026-05-08T13:56:00+00:00"),
        ("2026-05-08 13:56:00.5+02", "2026-05-08T13:56:00.500000+02:00"),
        ("2026-05-08", "2026-05-08T00:00:00+00:00"),
        (1_778_248_560, "2026-05-08T13:56:00+00:00"),
        (1_778_248_560_500, "2026-05-08T13:56:00.500000+00:00"),
        ("1778248560", "2026-05-08T13:56:00+00:00"),
        (True, None),
        ([], None),
        ("now", None),
        ("20260508", None),
        (1e300, None),
        (float("nan"), None),
    ],
)
def test_moments_as_programs_write_them(value: Any, found: str | None) -> None:
    if found is None:
        with pytest.raises(InvalidInput):
            moment_of(value, "created_at")
    else:
        assert moment_of(value, "created_at").isoformat() == found


def test_a_large_document_is_read_a_part_at_a_time() -> None:
    item = {"id": "x", "memory": "y" * 2_000, "user_id": "ada"}
    one = json.dumps(item)

    class Watched(io.BytesIO):
        most = 0

        def read1(self, size: int | None = -1, /) -> bytes:
            self.most = max(self.most, self.tell())
            return super().read1(size)

    file = Watched(('{"results": [' + ",".join([one] * 2_000) + "]}").encode())
    lines = records_in("mem0", file, "x", Said(), NOW, Limits())
    next(lines)
    assert file.most < 1_000_000
    assert sum(1 for _ in lines) == 1_999
