"""What is wrong with a Redis that answers: whatever may lose records, or find too few."""

from typing import Any

from app.drivers.redis.database import Database


async def troubles(database: Database) -> list[str]:
    """What is wrong, worst first; empty where nothing is."""
    [told, (windows,)] = await database.ask(
        ("INFO", "everything"), ("HMGET", database.names.of("meta"), "windows")
    )
    info = _lines(told)
    found = [*_of_server(info)]
    state = await database.index.state()
    found += _of_index(state, int(windows or 0))
    if not await database.index.fails_on_timeout():
        found.append("a search that takes too long may be answered in part: ON_TIMEOUT is not FAIL")
    return found


def _lines(told: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in told.decode().splitlines())
    return {name: value for name, _, value in lines}


def _of_server(info: dict[str, str]) -> list[str]:
    found = []
    if info.get("role", "master") != "master":
        found.append("it is a replica, which takes no writes")
    policy = info.get("maxmemory_policy", "")
    if policy.startswith("allkeys"):
        evicted = info.get("evicted_keys", "0")
        found.append(
            f"maxmemory-policy is {policy}, which deletes records without a word "
            f"({evicted} keys so far): set it to noeviction"
        )
    if info.get("aof_enabled") != "1":
        found.append(
            "the append-only file is off: a crash loses what was written since the last snapshot"
        )
    elif info.get("aof_last_write_status", "ok") != "ok":
        found.append("the append-only file can't be written")
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        found.append("the last snapshot failed")
    return found


def _of_index(state: dict[str, Any], windows: int) -> list[str]:
    if int(state.get("indexing", 0)):
        return ["the knowledge is still being indexed: a recall finds a part of it"]
    failures, indexed = int(state.get("hash_indexing_failures", 0)), int(state.get("num_docs", 0))
    if failures:
        return [f"Redis could not index knowledge {failures} times"]
    if indexed != windows:
        return [f"the index has {indexed} windows of knowledge, and there are {windows}"]
    return []
