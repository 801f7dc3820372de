"""Waiting until the journal of a wrapping driver is empty."""

from app.wrappers.failover import FailoverDriver
from app.wrappers.replicated import ReplicatedDriver
from tests.wrappers.held import until


async def settle(driver: FailoverDriver | ReplicatedDriver) -> None:
    """Wait until every driver has everything, and those that answer are not left alone."""

    async def settled() -> bool:
        health = await driver.health_check()
        pairs = zip(driver.members.nodes, health.drivers, strict=True)
        back = all(not n.reachability.away or s.status == "unavailable" for n, s in pairs)
        return back and not health.facts["pending"]

    await until(settled)
