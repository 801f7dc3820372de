"""A driver that is healthy and refuses to forget a user, while a test says so."""

from random import Random

from app.core.memory.requests import Forget
from app.errors import DriverError, DriverUnavailable
from tests.wrappers.flaky import FlakyDriver


class RefusingDriver(FlakyDriver):
    """Refuses every `delete_user` while it `refuses`."""

    def __init__(self, name: str) -> None:
        super().__init__(name, Random(1), delay=0.001)
        self.refuses = False

    async def _forget(self, wanted: Forget) -> int:
        if self.refuses:
            if self.away:
                raise DriverUnavailable(reason=f"{self.name} is away")
            raise DriverError(reason="not this user")
        return await super()._forget(wanted)
