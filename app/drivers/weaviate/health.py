"""What is wrong with a Weaviate that answers: whatever refuses writes, or finds too few."""

from typing import Any

from app.drivers.weaviate.database import Database


async def troubles(database: Database) -> tuple[list[str], dict[str, Any]]:
    """What is wrong, worst first, and figures; nothing is wrong where the list is empty."""
    await database.check()
    names = database.names
    found: list[str] = []
    waiting = 0
    for collection in (names.memories, names.knowledge, names.marks):
        shards = await database.client.get(f"/v1/schema/{collection}/shards", probe=True)
        for shard in shards if isinstance(shards, list) else []:
            if shard.get("status") == "READONLY":
                found.append(f"{collection} is read-only: its disk or memory may be full")
            waiting += int(shard.get("vectorQueueSize") or 0)
    if waiting:
        found.append(
            f"{waiting} vectors are not indexed yet (ASYNC_INDEXING): knowledge that was just "
            "stored is not found"
        )
    if database.resurrects:
        found.append(
            "deletionStrategy is not TimeBasedResolution: copies may bring deleted records back"
        )
    return list(dict.fromkeys(found)), {"copies": database.copies}
