"""Single schedules, told to a wrapping driver whose time is virtual."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

from app.errors import ConnectionLost
from app.settings import JournalSettings
from tests.wrappers import virtual
from tests.wrappers.flaky import Journalled, settled
from tests.wrappers.scripted import ScriptedDriver, Shape, journalled

Story: TypeAlias = Callable[[Journalled, list[ScriptedDriver]], Awaitable[None]]


def lost() -> None:
    """A fate: the write was made, and the answer did not come."""
    raise ConnectionLost(reason="lost after it was made")


def tell(shape: Shape, folder: Path, story: Story) -> None:
    """Let it happen to such a driver, whose journal is in the folder."""

    async def whole() -> None:
        leaves = shape.leaves(Random(1))
        async with shape.over(leaves, JournalSettings(path=folder)) as driver:
            await story(driver, leaves)

    virtual.run(whole, Random(1))


async def rest(driver: Journalled) -> None:
    """Wait until every driver has everything."""
    for each in journalled(driver):
        for dispatcher in each.members.dispatchers.values():
            dispatcher.start()
            await dispatcher.try_again()
    for each in journalled(driver):  # what an outer one brought, an inner one brings on
        await settled(each)


def paused(owner: Any, method: str, wait: Callable[[], Awaitable[object]]) -> None:
    """Let the next call of the method wait before it is made."""
    made = getattr(owner, method)

    async def late(*arguments: Any, **named: Any) -> Any:
        setattr(owner, method, made)
        await wait()
        return await made(*arguments, **named)

    setattr(owner, method, late)
