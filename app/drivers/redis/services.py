"""How far a next generation is, and whether each service has loaded its model."""

from app.drivers.redis.database import Database

LOOK_SECONDS = 2.0
"""How often a service looks whether there is a next generation, and says that it is there."""
SILENT_SECONDS = 4 * LOOK_SECONDS
"""A service that said nothing for so long is gone."""
READY = "ready"
"""What a service says that has loaded the model; any other says why it has not."""


async def hindrance(database: Database) -> str | None:
    """Why a switch had better wait, with the first service that is not ready; None: it need not."""
    told, (second, microsecond), (began,) = await database.ask(
        ("HGETALL", database.names.of("services")),
        ("TIME",),
        ("HMGET", database.names.meta, "began"),
    )
    now = int(second) + int(microsecond) / 1_000_000
    for service, said in sorted(told.items()):
        seen, _, state = said.decode().partition(" ")
        if now - int(seen) / 1_000 < SILENT_SECONDS and state != READY:
            return f"the service {service.decode()} has not loaded the model: {state}"
    if now - int(began or 0) / 1_000 < SILENT_SECONDS:
        return "services may not have noticed yet that there is another model"
    return None


async def how_far(database: Database) -> tuple[int, int]:
    """How many records the next generation has, and how many are known to be missing there."""
    names = database.names
    (done,), missing = await database.ask(
        ("HMGET", names.of("meta"), "records"), ("SCARD", names.of("missing"))
    )
    return int(done or 0), int(missing)
