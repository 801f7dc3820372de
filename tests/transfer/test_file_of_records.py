"""A file has every record byte for byte, and tells when it is cut or was changed."""

import base64
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.memory.derived import Derived
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Memory
from app.drivers.inmemory import InMemoryDriver
from app.embedding import Embedder, Model
from app.errors import InvalidInput
from app.settings import Limits
from app.transfer.lines import line_of, most_bytes, read_object, read_record
from tests.transfer.records import (
    MOMENT,
    by_place,
    every_record,
    exported,
    hostile_records,
    imported,
)

ONE: dict[str, Any] = {
    "memory_id": "00000000-0000-4000-8000-000000000001",
    "user_id": "ada",
    "content": "A kettle.",
    "created_at": "2026-05-08T13:56:00Z",
}
KNOWN: dict[str, Any] = {
    "knowledge_id": "00000000-0000-4000-8000-000000000001",
    "category": "physics",
    "content": "Kettles boil.",
    "created_at": "2026-05-08T13:56:00Z",
}


@pytest.fixture
def driver(embedder: Embedder) -> InMemoryDriver:
    return InMemoryDriver(embedder, Limits())


@pytest.fixture
def target(embedder: Embedder) -> InMemoryDriver:
    return InMemoryDriver(embedder, Limits())


@pytest.mark.parametrize("vectors", [False, True])
@pytest.mark.parametrize("piece", [7, 4_096, 10_000_000])
async def test_hostile_records_come_back_byte_for_byte(
    driver: RecordDriver, target: RecordDriver, vectors: bool, piece: int
) -> None:
    records = hostile_records()
    await driver.import_records(records)
    file = await exported(driver, vectors=vectors)
    told = await imported(target, file, piece=piece)
    assert by_place(await every_record(target)) == by_place(records)
    assert await exported(target, vectors=vectors) == file
    assert (told.kept.memories, told.kept.knowledge) == (len(records) // 2, len(records) // 2)


async def test_a_file_is_json_lines_in_the_words_of_the_api(driver: RecordDriver) -> None:
    stored = await driver.store("ada", "A kettle\u2028.", "kitchen", ["home"], {"n": 1.0})
    known = await driver.store_global_knowledge("Kettles boil.", "physics", title="Heat")
    first, second, last = (await exported(driver)).decode().split("\n")[:-1]
    moment = stored.created_at.isoformat().replace("+00:00", "Z")
    assert json.loads(first) == {
        "memory_id": stored.memory_id,
        "user_id": "ada",
        "content": "A kettle\u2028.",
        "conversation_id": "kitchen",
        "tags": ["home"],
        "metadata": {"n": 1.0},
        "created_at": moment,
        "updated_at": moment,
        "occurred_at": moment,
        "expires_at": None,
    }
    assert json.loads(second) == {
        "knowledge_id": known.knowledge_id,
        "content": "Kettles boil.",
        "category": "physics",
        "title": "Heat",
        "doc_id": None,
        "position": None,
        "metadata": {},
        "created_at": known.created_at.isoformat().replace("+00:00", "Z"),
        "updated_at": known.created_at.isoformat().replace("+00:00", "Z"),
        "expires_at": None,
    }
    end = json.loads(last)["end"]
    assert (end["memories"], end["knowledge"], len(end["sha256"])) == (1, 1, 64)


async def test_a_file_that_is_cut_anywhere_is_refused(
    driver: RecordDriver, target: RecordDriver
) -> None:
    await driver.store("ada", "A kettle.")
    await driver.store_global_knowledge("Kettles boil.", "physics")
    file = await exported(driver)
    for length in range(len(file) - 1):
        with pytest.raises(InvalidInput):
            await imported(target, file[:length])
    await imported(target, file[:-1])  # all but the end of the last line


async def test_a_file_that_was_changed_is_refused(
    driver: RecordDriver, target: RecordDriver
) -> None:
    await driver.store("ada", "A kettle.")
    await driver.store("bob", "A pot.")
    file = await exported(driver)
    first, second, last = file.splitlines(keepends=True)
    for changed in (
        file.replace(b"pot", b"pan"),
        first + last,
        second + first + last,
        first + first + second + last,
        first + second + last + last,
        file + first,
        file.replace(b"\n", b"\r\n"),
        file.replace(b'"memories":2', b'"memories":3'),
        b"\n" + file,
        file + b"\n",
    ):
        with pytest.raises(InvalidInput):
            await imported(target, changed)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"memory_id": "7"}, ("memory_id",)),
        ({"memory_id": None}, ("memory_id",)),
        ({"user_id": ""}, ("user_id",)),
        ({"user_id": None}, ("user_id",)),
        ({"user_id": "x" * 257}, ("user_id",)),
        ({"content": 7}, ("content",)),
        ({"content": "\x00"}, ("content",)),
        ({"content": "\ud800"}, ("content",)),
        ({"content": "x" * 32_769}, ("content",)),
        ({"conversation_id": ""}, ("conversation_id",)),
        ({"tags": "home"}, ("tags",)),
        ({"tags": [""]}, ("tags", 0)),
        ({"metadata": []}, ("metadata",)),
        ({"metadata": {"x": "y" * 20_000}}, ("metadata",)),
        ({"created_at": None}, ("created_at",)),
        ({"created_at": "yesterday"}, ("created_at",)),
        ({"updated_at": 7}, ("updated_at",)),
        ({"occurred_at": "2026-02-31T00:00:00Z"}, ("occurred_at",)),
        ({"expires_at": "0001-01-01T00:00:00Z"}, ("expires_at",)),
        ({"request": "x"}, ("request",)),
        ({"request": 7}, ("request",)),
        ({"score": None}, ("score",)),
        ({"category": "x"}, ("category",)),
    ],
)
async def test_a_line_that_is_not_within_the_limits_is_refused_at_its_place(
    target: RecordDriver, changes: dict[str, Any], place: tuple[str | int, ...]
) -> None:
    good, bad = json.dumps(ONE), json.dumps(ONE | changes)
    with pytest.raises(InvalidInput) as refused:
        await imported(target, f"{good}\n{bad}\n".encode())
    assert refused.value.loc == (2, *place)
    assert str(refused.value).startswith("line 2: ")


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"position": -1}, ("position",)),
        ({"position": 2**31 - 1}, ("position",)),
        ({"position": True}, ("position",)),
        ({"category": ""}, ("category",)),
        ({"title": "x" * 513}, ("title",)),
        ({"doc_id": 7}, ("doc_id",)),
        ({"user_id": "ada"}, ("user_id",)),
        ({"tags": []}, ("tags",)),
    ],
)
async def test_so_is_a_line_of_knowledge(
    target: RecordDriver, changes: dict[str, Any], place: tuple[str | int, ...]
) -> None:
    with pytest.raises(InvalidInput) as refused:
        await imported(target, json.dumps(KNOWN | changes).encode() + b"\n")
    assert refused.value.loc == (1, *place)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff",
        b"[]",
        b"7",
        b"{",
        b"{}",
        b'{"user_id":"ada"}',
        b'{"memory_id":NaN}',
        b'{"memory_id":1,"memory_id":2}',
        b'{"end":7}',
        b'{"model":7}',
        b'{"model":{"name":"m","sample":"?"}}',
        b"[" * 100_000,
        b'{"metadata":' + b"[[],[]]," * 500_000,
    ],
)
async def test_a_line_that_is_no_record_is_refused(target: RecordDriver, line: bytes) -> None:
    with pytest.raises(InvalidInput):
        await imported(target, line + b"\n", piece=1_000_000)


async def test_a_line_without_end_is_refused_and_never_whole_in_memory(
    target: RecordDriver,
) -> None:
    most, given = most_bytes(Limits()), 0

    async def endless() -> Any:
        nonlocal given
        while True:
            given += 100_000
            yield b"x" * 100_000

    from app.transfer.importing import import_lines

    with pytest.raises(InvalidInput, match="line 1 has more than"):
        await import_lines(target, endless(), Limits())
    assert given <= most + 200_000


async def test_what_may_be_left_out_may_be_left_out(target: RecordDriver) -> None:
    await target.import_records(
        [read_record(read_object(json.dumps(ONE).encode(), 1_000), Limits()).record]
    )
    [record] = await every_record(target)
    assert record == Memory(
        memory_id=ONE["memory_id"], user_id="ada", content="A kettle.", created_at=MOMENT_OF_ONE
    )


MOMENT_OF_ONE = MOMENT.replace(microsecond=0)


async def test_an_older_file_does_not_undo_a_later_version(
    driver: RecordDriver, target: RecordDriver
) -> None:
    stored = await driver.store("ada", "A kettle.")
    file = await exported(driver)
    await imported(target, file)
    changed = await target.update(stored.memory_id, "ada", {"content": "A pot."})
    await imported(target, file)
    assert await target.get(stored.memory_id, "ada") == changed


async def test_vectors_of_the_same_model_are_taken_and_those_of_another_are_not(
    driver: RecordDriver, target: RecordDriver, embedder: Embedder
) -> None:
    stored = await driver.store("ada", "A kettle of copper.")
    file = await exported(driver, vectors=True)
    lines = [json.loads(line) for line in file.splitlines()]
    sent = np.frombuffer(base64.b64decode(lines[1]["vectors"][0]), "<f4")
    [own] = await driver.derived_of([stored])
    assert own is not None
    np.testing.assert_array_equal(sent, own.vectors[0])
    model = await driver.model()
    assert model is not None
    # A vector that is right in form and wrong in fact shows who made the one that is kept.
    mirrored = base64.b64encode((-sent).astype("<f4").tobytes()).decode()
    line = line_of(stored, Derived(-own.vectors))
    assert mirrored.encode() in line
    for sample, expected in ((model.sample, -sent), (-model.sample, sent)):
        about = {
            "name": "any",
            "dimension": len(sample),
            "sample": base64.b64encode(sample.tobytes()).decode(),
        }
        head = json.dumps({"model": about}).encode() + b"\n"
        await target.delete_user("ada")
        with pytest.raises(InvalidInput, match="cut"):
            await imported(target, head + line)
        [kept] = await target.derived_of([stored])
        assert kept is not None
        np.testing.assert_allclose(kept.vectors[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    "vectors", [7, [], ["?"], [""], ["AAAAAAAA"], [7], ["AAAA"] * 65, ["AACAfw=="] * 2]
)
async def test_vectors_that_are_none_are_refused(
    driver: RecordDriver, target: RecordDriver, vectors: object
) -> None:
    await driver.store("ada", "A kettle.")
    head, _, _ = (await exported(driver, vectors=True)).splitlines(keepends=True)
    line = json.dumps(ONE | {"vectors": vectors}).encode() + b"\n"
    with pytest.raises(InvalidInput) as refused:
        await imported(target, head + line)
    assert refused.value.loc[:2] == (2, "vectors")


def test_a_model_is_known_by_its_vectors_and_not_by_its_name() -> None:
    one = np.eye(4, dtype=np.float32)
    assert Model("a", one[0]).is_same(Model("b", one[0]))
    assert not Model("a", one[0]).is_same(Model("a", one[1]))
    assert not Model("a", one[0]).is_same(Model("a", np.ones(3, np.float32)))


TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=50
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


@given(
    TEXT,
    TEXT,
    st.none() | TEXT,
    st.lists(TEXT, max_size=4),
    st.dictionaries(TEXT, JSON, max_size=4),
)
@settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
def test_any_memory_comes_back_from_its_line(
    user_id: str, content: str, conversation: str | None, tags: list[str], metadata: dict[str, Any]
) -> None:
    memory = Memory(
        memory_id=ONE["memory_id"],
        user_id=user_id,
        content=content,
        conversation_id=conversation,
        tags=tags,
        metadata=metadata,
        created_at=MOMENT,
        updated_at=MOMENT + timedelta(microseconds=1),
    )
    line = line_of(memory)
    assert line.count(b"\n") == 1
    back = read_record(read_object(line, len(line)), Limits()).record
    assert back == memory
    assert line_of(back) == line
    assert line_of(replace(memory, score=0.5)) == line
