"""Waiting until the journal of a wrapping driver is empty."""

from app.wrappers.failover import FailoverDriver
from app.wrappers.replicated import ReplicatedDriver
from tests.wrappers.held import until


async def settle(driver: FailoverDriver | ReplicatedDriver) -> None:
    """Wait until every driver has everything."""

    async def settled() -> bool:
        return not (await driver.health_check()).facts["pending"]

    await until(settled)
