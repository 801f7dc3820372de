"""Tenants of one driver never meet, and a tenant can't tell that it is one."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from app.core.memory.base import BaseMemoryDriver
from app.core.memory.manager import MemoryDriverManager
from app.core.memory.records import Knowledge, Memory, NewKnowledge, NewMemory, Recalled
from app.core.memory.requests import Recall
from app.drivers.inmemory import InMemoryDriver
from app.drivers.pgvector import PgvectorDriver
from app.embedding import Embedder
from app.errors import CapabilityMissing, DriverError, InvalidInput
from app.ranking import Explanation
from app.settings import DatabaseSettings, Limits, NamedDriver, Settings
from app.wrappers.scoped import ScopedDriver
from app.wrappers.unscoped import UnscopedDriver
from tests.conftest import NewDatabase
from tests.service.six_verbs import SixVerbs

LIMITS = Limits()
TENANTS = ("acme", "Acme", "a", "acme-2", "_")
HOSTILE = (
    "ada",
    "\x1f",
    "\x1facme",
    "\x1facme\x1f",
    "\x1facme\x1fada",
    "acme\x1fada",
    "\x1f\x1facme\x1fada",
    "Acme",
    " ",
)
"""User ids that look like what a tenant's users are called inside."""


def inmemory(embedder: Embedder) -> InMemoryDriver:
    return InMemoryDriver(embedder, LIMITS.widened())


async def fill(driver: BaseMemoryDriver, mark: str, users: Sequence[str] = HOSTILE) -> set[str]:
    """Store something of every kind, which tells whose it is; the ids."""
    ids = set()
    for user in users:
        stored = await driver.store(user, f"{mark} kettle", "shared", ["t"], {"of": mark})
        ids.add(stored.memory_id)
    for category in ("shared", "\x1facme", "other"):
        knowledge = await driver.store_global_knowledge(
            f"{mark} kettle", category, "title", "doc", {"of": mark}
        )
        ids.add(knowledge.knowledge_id)
    return ids


async def contents(driver: BaseMemoryDriver, users: Sequence[str] = HOSTILE) -> set[str]:
    """All that the six verbs tell, by the same names that `fill` uses."""
    found: list[Memory | Knowledge] = []
    for user in users:
        found += await driver.recall(user, top_k=100)
        found += await driver.recall(user, "shared", "kettle", use_vector=False)
    for category in (None, "shared", "\x1facme", "other"):
        found += await driver.recall_global_knowledge("kettle", 100, category)
    return {record.content for record in found}


async def test_tenants_of_a_driver_of_six_verbs_never_meet() -> None:
    inner = SixVerbs()
    drivers = {tenant: ScopedDriver(inner, tenant, LIMITS) for tenant in TENANTS}
    ids = {tenant: await fill(driver, tenant) for tenant, driver in drivers.items()}
    untenanted = UnscopedDriver(inner, LIMITS)
    ids[""] = await fill(untenanted, "nobody", ["ada", "acme\x1fada", "Acme", " "])
    for tenant, driver in drivers.items():
        assert await contents(driver) == {f"{tenant} kettle"}
        for others in (ids[other] for other in ids if other != tenant):
            for record_id in others:
                assert not any([await driver.delete(record_id, user) for user in HOSTILE])
        assert len(await driver.recall_global_knowledge("kettle", 100)) == 3
    assert await contents(untenanted, ["ada", "acme\x1fada", "Acme", " "]) == {"nobody kettle"}


hostile = st.text(st.sampled_from("\x1f\x1e aA:-_é\n🦊"), min_size=1, max_size=8)
tenants = st.text(st.sampled_from("aAb-_1"), min_size=1, max_size=4)


@settings(max_examples=200, deadline=None)
@given(one=st.tuples(tenants, hostile), other=st.tuples(tenants, hostile), category=hostile)
async def test_no_tenant_and_no_user_id_reaches_anothers(
    one: tuple[str, str], other: tuple[str, str], category: str
) -> None:
    inner = SixVerbs()
    first, second = (ScopedDriver(inner, tenant, LIMITS) for tenant, _ in (one, other))
    memory = await first.store(one[1], "secret", category)
    await first.store_global_knowledge("secret", category)
    assert (memory.user_id, memory.conversation_id) == (one[1], category)
    assert len(await second.recall(other[1])) == (one == other)
    assert await second.delete(memory.memory_id, other[1]) == (one == other)
    assert len(await second.recall_global_knowledge("secret")) == (one[0] == other[0])


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(one=st.tuples(tenants, hostile), other=st.tuples(tenants, hostile))
async def test_no_capability_reaches_another_tenants(
    embedder: Embedder, one: tuple[str, str], other: tuple[str, str]
) -> None:
    inner = inmemory(embedder)
    first, second = (ScopedDriver(inner, tenant, LIMITS) for tenant, _ in (one, other))
    (memory,) = await first.store_many([NewMemory(user_id=one[1], content="a")])
    (knowledge,) = await first.store_knowledge_many([NewKnowledge(content="a", category="b")])
    same_tenant = one[0] == other[0]
    assert await second.get(memory.memory_id, other[1]) == (memory if one == other else None)
    assert (await second.list_memories(other[1])).memories == ([memory] if one == other else [])
    assert await second.owner_of(memory.memory_id) == (one[1] if same_tenant else None)
    assert await second.get_knowledge(knowledge.knowledge_id) == (
        knowledge if same_tenant else None
    )
    exported = [record async for record in second.export_records()]
    assert exported == ([memory, knowledge] if same_tenant else [])
    assert await second.delete_user(other[1]) == (one == other)
    assert await second.delete(memory.memory_id) == (same_tenant and one != other)


async def test_memories_and_knowledge_of_a_tenant_do_not_mix(embedder: Embedder) -> None:
    driver = ScopedDriver(inmemory(embedder), "acme", LIMITS)
    memory = await driver.store("ada", "kettle", "kitchen")
    knowledge = await driver.store_global_knowledge("kettle", "kitchen")
    for user in HOSTILE:
        assert await driver.get(knowledge.knowledge_id, user) is None
        assert await driver.update(knowledge.knowledge_id, user, {"content": "x"}) is None
        assert not await driver.delete(knowledge.knowledge_id, user)
    assert not await driver.delete(knowledge.knowledge_id)
    assert await driver.owner_of(knowledge.knowledge_id) is None
    assert await driver.get_knowledge(memory.memory_id) is None
    assert await driver.update_knowledge(memory.memory_id, {"content": "x"}) is None
    assert not await driver.delete_knowledge(memory.memory_id)
    assert await driver.get(memory.memory_id, "ada") == memory
    assert await driver.get_knowledge(knowledge.knowledge_id) == knowledge


async def test_knowledge_keeps_keys_that_are_its_own(embedder: Embedder) -> None:
    """Nothing of the metadata is taken for what the knowledge is kept with."""
    driver = ScopedDriver(inmemory(embedder), "acme", LIMITS)
    metadata = {"title": "t", "doc_id": 1, "metadata": {"metadata": None}, "speaker": "Ada"}
    for title in (None, "Care"):
        stored = await driver.store_global_knowledge("kettle", "c", title, None, metadata)
        found = (await driver.recall_global_knowledge("kettle"))[0]
        assert (found.title, found.doc_id, found.metadata) == (title, None, metadata)
        assert replace(found, score=None) == stored


async def test_what_a_caller_does_with_knowledge_changes_nothing() -> None:
    driver = ScopedDriver(SixVerbs(), "acme", LIMITS)
    metadata: dict[str, Any] = {"a": [1]}
    stored = await driver.store_global_knowledge("kettle", "c", metadata=metadata)
    metadata["a"].append(2)
    stored.metadata["b"] = 1
    (await driver.recall_global_knowledge("kettle"))[0].metadata.clear()
    assert (await driver.recall_global_knowledge("kettle"))[0].metadata == {"a": [1]}


def test_a_scoped_driver_can_do_what_its_driver_can(embedder: Embedder) -> None:
    inner = inmemory(embedder)
    assert ScopedDriver(inner, "acme", LIMITS).capabilities() == inner.capabilities()
    assert ScopedDriver(SixVerbs(), "acme", LIMITS).capabilities() == frozenset()
    assert UnscopedDriver(inner, LIMITS).capabilities() == inner.capabilities()
    assert UnscopedDriver(SixVerbs(), LIMITS).capabilities() == frozenset()


@pytest.mark.parametrize(
    "kind", [lambda d: ScopedDriver(d, "acme", LIMITS), lambda d: UnscopedDriver(d, LIMITS)]
)
async def test_a_delete_without_a_user_needs_to_know_the_owner(
    kind: Callable[[BaseMemoryDriver], BaseMemoryDriver],
) -> None:
    driver = kind(SixVerbs())
    stored = await driver.store("ada", "kettle")
    with pytest.raises(CapabilityMissing, match="name the memory's user"):
        await driver.delete(stored.memory_id)
    assert await driver.delete(stored.memory_id, "ada")


async def test_a_delete_without_a_user_is_the_tenants_own(embedder: Embedder) -> None:
    inner = inmemory(embedder)
    drivers = [
        *(ScopedDriver(inner, t, LIMITS) for t in ("acme", "b")),
        UnscopedDriver(inner, LIMITS),
    ]
    for driver in drivers:
        mine = await driver.store("ada", "kettle")
        for other in drivers:
            if other is not driver:
                assert not await other.delete(mine.memory_id)
        assert await driver.delete(mine.memory_id.upper())


async def test_an_import_puts_an_export_into_another_tenant(embedder: Embedder) -> None:
    one = ScopedDriver(inmemory(embedder), "acme", LIMITS)
    inner = inmemory(embedder)
    other = ScopedDriver(inner, "globex", LIMITS)
    stored = [
        await one.store("ada", "kettle", "c", ["t"], {"n": 1.0}),
        await one.store_global_knowledge("kettle", "c", "Care", "doc", {"n": 1.0}),
    ]
    records = [record async for record in one.export_records()]
    assert records == stored
    for _ in range(2):
        await other.import_records(records)
    assert [record async for record in other.export_records()] == stored
    assert [record async for record in UnscopedDriver(inner, LIMITS).export_records()] == []
    assert [record async for record in ScopedDriver(inner, "acme", LIMITS).export_records()] == []


class Telling(InMemoryDriver):
    """Tells how it recalled, and why."""

    explains = True

    async def _recall(self, wanted: Recall) -> list[Memory]:
        found = await super()._recall(wanted)
        if not wanted.explain:
            return Recalled(found, driver="inner", degraded=True, cached=True)
        why = Explanation(cosine=0.5)
        return Recalled([replace(m, explanation=why, score=0.7) for m in found], driver="why")


async def test_how_a_recall_was_answered_and_why_gets_through(embedder: Embedder) -> None:
    driver = ScopedDriver(Telling(embedder, LIMITS), "acme", LIMITS)
    await driver.store("ada", "kettle")
    await driver.store_global_knowledge("kettle", "c")
    for found in (await driver.recall("ada"), await driver.recall_global_knowledge("kettle")):
        assert len(found) == 1
        assert isinstance(found, Recalled)
        assert (found.driver, found.degraded, found.cached) == ("inner", True, True)
    explained = await driver.recall("ada", query="kettle", explain=True)
    assert isinstance(explained, Recalled)
    assert (explained.driver, explained.cached) == ("why", False)
    assert (explained[0].explanation, explained[0].score) == (Explanation(cosine=0.5), 0.7)
    assert explained[0].user_id == "ada"
    plain = await ScopedDriver(SixVerbs(), "acme", LIMITS).recall("ada")
    assert isinstance(plain, Recalled)
    assert (plain.driver, plain.degraded, plain.cached) == ("custom", False, False)


class Careless(SixVerbs):
    """Gives whatever it has, to anybody."""

    async def recall(self, user_id: str, *arguments: Any, **named: Any) -> list[Memory]:
        return self._memories


async def test_a_driver_that_mixes_users_up_is_refused_and_not_believed() -> None:
    inner = Careless()
    acme, globex = (ScopedDriver(inner, tenant, LIMITS) for tenant in ("acme", "globex"))
    await acme.store("ada", "kettle")
    with pytest.raises(DriverError):
        await globex.recall("ada")
    with pytest.raises(DriverError):
        await acme.recall_global_knowledge("kettle")


async def test_health_is_the_inner_drivers(embedder: Embedder) -> None:
    inner = inmemory(embedder)
    driver = ScopedDriver(inner, "acme", LIMITS)
    health = await driver.health_check()
    assert (health.driver, health.status) == ("scoped", "ok")
    assert health.drivers == (await inner.health_check(),)
    assert await UnscopedDriver(inner, LIMITS).health_check() == await inner.health_check()


Refused = Callable[[Any], Awaitable[object]]
ID = "01a2041e-3795-7337-a045-ffd936bf1f5e"
BAD_TEXTS = ["", "\x00", "\ud800", "x" * 257, None, 1]
BAD: list[Refused] = [
    *(lambda d, t=t: d.store(t, "kettle") for t in BAD_TEXTS),
    *(lambda d, t=t: d.recall(t) for t in BAD_TEXTS),
    *(lambda d, t=t: d.recall("ada", query="kettle", conversation_id=t) for t in BAD_TEXTS[:4]),
    *(lambda d, t=t: d.get(ID, t) for t in BAD_TEXTS),
    *(lambda d, t=t: d.update(ID, t, {}) for t in BAD_TEXTS),
    *(lambda d, t=t: d.delete(ID, t) for t in BAD_TEXTS if t is not None),
    *(lambda d, t=t: d.delete_user(t) for t in BAD_TEXTS),
    *(lambda d, t=t: d.list_memories(t) for t in BAD_TEXTS),
    *(lambda d, t=t: d.store_global_knowledge("kettle", t) for t in BAD_TEXTS),
    *(lambda d, t=t: d.store_global_knowledge("kettle", "c", doc_id=t) for t in BAD_TEXTS[:4]),
    *(lambda d, t=t: d.recall_global_knowledge("kettle", category=t) for t in BAD_TEXTS[:4]),
    *(
        lambda d, t=t: d.store_many(
            [NewMemory(user_id="ada", content="a"), NewMemory(user_id=t, content="a")]
        )
        for t in BAD_TEXTS
    ),
    *(
        lambda d, t=t: d.store_knowledge_many([NewKnowledge(content="kettle", category=t)])
        for t in BAD_TEXTS
    ),
    *(lambda d, i=i: d.get(i, "ada") for i in ("", "x", "\x00", ID + "0")),
    *(lambda d, i=i: d.delete(i, "ada") for i in ("", "x", "\x00", ID + "0")),
    *(lambda d, i=i: d.update(i, "ada", {}) for i in ("", "x", "\x00", ID + "0")),
    *(lambda d, i=i: d.update_knowledge(i, {}) for i in ("", "x", "\x00", ID + "0")),
    *(lambda d, i=i: d.delete(i) for i in ("", "x", "\x00", ID + "0")),
    *(lambda d, i=i: d.get_knowledge(i) for i in ("", "x", "\x00", ID + "0")),
    *(lambda d, i=i: d.delete_knowledge(i) for i in ("", "x", "\x00", ID + "0")),
    *(lambda d, i=i: d.owner_of(i) for i in ("", "x", "\x00", ID + "0")),
    lambda d: d.store("ada", "x" * 32_769),
    lambda d: d.store("ada", "kettle", "x" * 257),
    lambda d: d.store("ada", "kettle", None, ["a", "\x00"]),
    lambda d: d.store("ada", "kettle", None, None, {"a": "x" * 16_384}),
    lambda d: d.store_global_knowledge("kettle", "x" * 129),
    lambda d: d.store_global_knowledge("kettle", "c", "x" * 513),
    lambda d: d.store_global_knowledge("kettle", "c", metadata={"a": "x" * 16_384}),
    lambda d: d.store_global_knowledge("kettle", "c", metadata={"a": {"b": "\x00"}}),
    lambda d: d.store_global_knowledge(
        "kettle", "c", metadata={"a": [[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]}
    ),
    lambda d: d.update(ID, "ada", {"content": "x" * 32_769}),
    lambda d: d.update(ID, "ada", {"colour": "red"}),
    lambda d: d.update_knowledge(ID, {"category": None}),
    lambda d: d.update_knowledge(ID, {"metadata": {"a": "x" * 16_384}}),
    lambda d: d.store_many([]),
    lambda d: d.store_knowledge_many([]),
    lambda d: d.recall_global_knowledge(""),
    lambda d: d.recall_global_knowledge("kettle", 101),
    lambda d: d.recall("ada", top_k=0),
    lambda d: d.list_memories("ada", limit=101),
    lambda d: d.list_memories("ada", cursor="x"),
]


@pytest.mark.parametrize("refused", BAD, ids=range(len(BAD)))
async def test_bad_input_is_refused_as_the_driver_itself_refuses_it(
    embedder: Embedder, refused: Refused
) -> None:
    with pytest.raises(InvalidInput) as bare:
        await refused(InMemoryDriver(embedder, LIMITS))
    for driver in (
        ScopedDriver(inmemory(embedder), "acme", LIMITS),
        UnscopedDriver(InMemoryDriver(embedder, LIMITS), LIMITS),
    ):
        with pytest.raises(InvalidInput) as scoped:
            await refused(driver)
        assert (str(scoped.value), scoped.value.loc) == (str(bare.value), bare.value.loc)


WIDE = "".join(chr(0x20000 + n * 7_919 % 0xA000) for n in range(256))
"""Four bytes each, and in no order that an index could compress."""


@pytest.mark.parametrize("backend", ["inmemory", "pgvector"])
async def test_the_longest_records_of_the_longest_tenants_fit(
    backend: str, embedder: Embedder, new_database: NewDatabase
) -> None:
    """A tenant within a tenant: a key's, over a scoped driver of the configuration."""
    limits = Limits(category_chars=256, title_chars=10_000, doc_id_chars=10_000)
    most = limits.widened().widened()
    inner: BaseMemoryDriver = InMemoryDriver(embedder, most)
    if backend == "pgvector":
        database = DatabaseSettings(url=SecretStr(await new_database()))
        inner = PgvectorDriver(database, embedder, most)
    middle = ScopedDriver(inner, "x" * 32, limits.widened())
    deepest: dict[str, Any] = {"a": "\x01" * 2_700}
    for _ in range(15):
        deepest = {"a": deepest}
    async with ScopedDriver(middle, "y" * 32, limits) as driver:
        memory = await driver.store(WIDE, "kettle", WIDE[::-1], metadata=deepest)
        assert await driver.recall(WIDE, WIDE[::-1]) == [memory]
        page = await driver.list_memories(WIDE, WIDE[::-1])
        assert page.memories == [memory]
        knowledge = await driver.store_global_knowledge(
            "kettle", WIDE, "\x01" * 10_000, "\x02" * 10_000, deepest
        )
        found = await driver.recall_global_knowledge("kettle", category=WIDE)
        assert [replace(record, score=None) for record in found] == [knowledge]
        assert await driver.get_knowledge(knowledge.knowledge_id) == knowledge


async def test_a_tenant_can_have_tenants(embedder: Embedder) -> None:
    inner = InMemoryDriver(embedder, LIMITS.widened().widened())
    outer = ScopedDriver(inner, "b", LIMITS.widened())
    nested = ScopedDriver(outer, "acme", LIMITS)
    plain = ScopedDriver(inner, "acme", LIMITS.widened())
    for driver, mark in (
        (nested, "nested"),
        (plain, "plain"),
        (UnscopedDriver(outer, LIMITS), "b"),
    ):
        users = [user for user in HOSTILE if mark != "b" or not user.startswith("\x1f")]
        await fill(driver, mark, users)
        assert await contents(driver, users) == {f"{mark} kettle"}


@pytest.mark.parametrize("user_id", ["\x1f", "\x1facme", "\x1facme\x1fada", "\x1f\x1f"])
async def test_without_a_tenant_no_tenants_user_can_be_named(
    embedder: Embedder, user_id: str
) -> None:
    inner = inmemory(embedder)
    acme = ScopedDriver(inner, "acme", LIMITS)
    memory = await acme.store("ada", "kettle")
    await acme.store_global_knowledge("kettle", "c")
    driver = UnscopedDriver(inner, LIMITS)
    new = NewMemory(user_id=user_id, content="a")
    asked: list[tuple[Awaitable[object], tuple[str | int, ...]]] = [
        (driver.recall(user_id), ("user_id",)),
        (driver.store(user_id, "a"), ("user_id",)),
        (driver.get(memory.memory_id, user_id), ("user_id",)),
        (driver.list_memories(user_id), ("user_id",)),
        (driver.delete(memory.memory_id, user_id), ("user_id",)),
        (driver.delete_user(user_id), ("user_id",)),
        (
            driver.store_many([NewMemory(user_id="ada", content="a"), new]),
            ("memories", 1, "user_id"),
        ),
        (
            driver.import_records([replace(memory, user_id=user_id)]),
            ("records", 0, "user_id"),
        ),
    ]
    for asking, loc in asked:
        with pytest.raises(InvalidInput, match=r"U\+001F") as refusal:
            await asking
        assert refusal.value.loc == loc
    assert await driver.recall("ada") == []
    assert await driver.recall_global_knowledge("kettle") == []
    assert await driver.owner_of(memory.memory_id) is None
    assert len(await acme.recall("ada")) == 1


@pytest.mark.parametrize("tenant", ["", "a b", "a\x1fb", "é", "x" * 33, "a\n"])
def test_a_tenant_is_plain(tenant: str) -> None:
    with pytest.raises(ValueError, match="a tenant is"):
        ScopedDriver(SixVerbs(), tenant, LIMITS)


async def test_the_configuration_names_tenants_of_a_driver_of_six_verbs() -> None:
    MemoryDriverManager.register_driver("six", lambda _: SixVerbs())
    try:
        named = {
            name: NamedDriver(type="scoped", inner=("six",), options={"tenant": name})
            for name in ("acme", "globex")
        }
        manager = MemoryDriverManager(Settings(driver="acme", named=named))
        acme, globex = manager.driver(), manager.driver("globex")
    finally:
        MemoryDriverManager.reset_cache()
    assert (acme.name, globex.name) == ("acme", "globex")
    await fill(acme, "acme")
    await fill(globex, "globex")
    assert await contents(acme) == {"acme kettle"}
    assert await contents(globex) == {"globex kettle"}


async def test_what_the_inner_driver_lacks_is_told(embedder: Embedder) -> None:
    driver = ScopedDriver(SixVerbs(), "acme", LIMITS)
    new, fact = NewMemory(user_id="ada", content="x"), NewKnowledge(content="x", category="c")
    for asked in (
        driver.get(ID, "ada"),
        driver.owner_of(ID),
        driver.list_memories("ada"),
        driver.store_many([new]),
        driver.store_knowledge_many([fact]),
        driver.get_knowledge(ID),
        driver.update(ID, "ada", {"content": "x"}),
        driver.update_knowledge(ID, {"content": "x"}),
        driver.delete_knowledge(ID),
        driver.delete_user("ada"),
        driver.import_records([]),
        driver.recall("ada", explain=True),
    ):
        with pytest.raises(CapabilityMissing):
            await asked
    with pytest.raises(CapabilityMissing):
        driver.export_records()


async def test_knowledge_that_was_kept_before_filters_has_its_metadata(embedder: Embedder) -> None:
    inner = inmemory(embedder)
    driver = ScopedDriver(inner, "acme", LIMITS)
    box = {"title": "Care", "doc_id": "d", "metadata": {"m.a": 1, "metadata": {"b": 2}}}
    kept = await inner.store("\x1facme", "kettle", "kitchen", metadata=box)
    found = await driver.get_knowledge(kept.memory_id)
    assert found is not None
    assert (found.title, found.doc_id, found.metadata) == ("Care", "d", box["metadata"])
    changed = await driver.update_knowledge(kept.memory_id, {"metadata": {"m.a": None, "c": 3}})
    assert changed is not None
    assert changed.metadata == {"metadata": {"b": 2}, "c": 3}
    assert (await driver.get_knowledge(kept.memory_id)) == changed
    (named,) = await driver.recall_global_knowledge("kettle", filter={"metadata": {"c": 3}})
    assert named.knowledge_id == kept.memory_id
