"""Whether a backend is there: probed in the background while it is away, and told once each way."""

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from time import monotonic

from app.logs import get_logger
from app.metrics import BACKEND_AWAY
from app.tasks import end

_log = get_logger(__name__)


class Reachability:
    """Whether one backend is there, by what calls to it tell, and a probe of its own.

        there ──failures in a row──▶ away ──the probe, or a call, is answered──▶ there
          ▲                          │  ▲
          └─ answered: count = 0     └──┘ no answer in time, or an error

    No caller waits for a probe. What its user does while the backend is away is the user's choice.
    A call that began before the last change tells of before: that counts for nothing.
    """

    def __init__(
        self,
        backend: str,
        where: str,
        *,
        probe: Callable[[], Awaitable[bool]] | None = None,
        pauses: tuple[float, float] = (0.05, 1.0),
        limit: float = 5.0,
        failures: int = 1,
        on_back: Callable[[], None] = lambda: None,
    ) -> None:
        """`probe` says whether it is there; no answer in `limit` seconds, or an error, is a no.

        `pauses`: seconds before the first probe, each later pause twice the last, and the longest.
        Without a probe calls find it. `where`: the setting that leads to it, or the wrapping driver
        that holds it.
        """
        self.away = False
        self._names = {"backend": backend, "where": where}
        self._told = BACKEND_AWAY.labels(**self._names)
        self._told.set(0)
        self._probe = probe
        self._pauses = pauses
        self._limit = limit
        self._failures = failures
        self._on_back = on_back
        self._failed = 0
        self._changed = -inf
        """When it last went or came back, by the monotonic clock."""
        self._probing: asyncio.Task[None] | None = None
        self._stopped = False

    def start(self) -> None:
        """Work again after `stop`."""
        self._stopped = False

    async def stop(self) -> None:
        """End the probing, for good: a call that fails later starts none."""
        self._stopped = True
        task, self._probing = self._probing, None
        await end(task)
        self.away, self._failed = False, 0
        self._told.set(0)

    def failed(self, reason: str, since: float = inf) -> None:
        """A call that began at `since`, by the monotonic clock, had no answer."""
        if since < self._changed:
            return
        self._failed += 1
        if self._failed >= self._failures:
            self.lost(reason)

    def answered(self, since: float = inf) -> None:
        """A call that began at `since` was answered, or what else proves that it is there."""
        if since < self._changed:
            return
        self._failed = 0
        if self.away:
            if self._probing is not None:
                self._probing.cancel()
            self._found()

    def lost(self, reason: str) -> None:
        """Take it for away from now on, until it answers."""
        if self.away or self._stopped:
            return
        self._change("backend_away", away=True, reason=reason)
        if self._probe is not None:
            self._probing = asyncio.create_task(self._look(self._probe))

    async def _look(self, probe: Callable[[], Awaitable[bool]]) -> None:
        pause, longest = self._pauses
        while self.away:
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)
            try:
                async with asyncio.timeout(self._limit):
                    there = await probe()
            except TimeoutError:
                continue
            except Exception:  # noqa: BLE001 - a probing that ended would leave it away for ever
                _log.exception("probe_failed", **self._names)
                continue
            if there and self.away:
                self._found()

    def _found(self) -> None:
        self._change("backend_back", away=False)
        self._on_back()

    def _change(self, event: str, *, away: bool, **said: str) -> None:
        self.away, self._failed, self._changed = away, 0, monotonic()
        self._told.set(away)
        _log.warning(event, **self._names, **said)
