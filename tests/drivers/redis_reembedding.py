"""A process of its own that brings the records of a Redis the second model, step by step.

It prints a line before each step, so that whoever waits for one can kill it there.
"""

import asyncio
import sys

from pydantic import SecretStr

from app.drivers.redis import RedisDriver, reembedding
from app.errors import ConfigurationError
from app.settings import Limits, RedisSettings
from tests.drivers.another_model import bring, steps
from tests.drivers.two_models import FIRST


def _told() -> None:
    sys.stdout.write("step\n")
    sys.stdout.flush()


async def _main(url: str) -> None:
    driver = RedisDriver(RedisSettings(url=SecretStr(url)), FIRST, Limits())
    _told()
    async with steps(driver) as found:
        if await found.state() != "switched":
            try:
                await bring(found, _told)
            except ConfigurationError as error:
                if "already" not in str(error):  # it is over
                    raise
        _told()
        await found.end()
    _told()


if __name__ == "__main__":
    for size in ("_BATCH", "_MOST"):
        setattr(reembedding, size, 25)
    asyncio.run(_main(sys.argv[1]))
