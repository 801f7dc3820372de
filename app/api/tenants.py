"""Which part of the driver the holder of a key reaches."""

from app.core.memory.record_driver import RecordDriver
from app.settings import ApiKey, Settings
from app.wrappers.scoped import ScopedDriver
from app.wrappers.unscoped import UnscopedDriver


class Tenants:
    """The driver, in a part for each tenant of a key and one for everyone else.

    Everyone else's part is the same whether or not some key has a tenant now: one that had may have
    left records.
    """

    def __init__(self, driver: RecordDriver, settings: Settings) -> None:
        self._parts: dict[str | None, RecordDriver] = {
            None: UnscopedDriver(driver, settings.limits)
        }
        for key in settings.accepted_keys:
            if key.tenant is not None and key.tenant not in self._parts:
                scoped = ScopedDriver(driver, key.tenant, settings.limits)
                scoped.name = driver.name
                self._parts[key.tenant] = scoped

    def part(self, key: ApiKey | None) -> RecordDriver:
        """What a request with this key may use."""
        return self._parts[key.tenant if key is not None else None]
