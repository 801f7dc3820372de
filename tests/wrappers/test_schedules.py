"""Whatever happens in whatever order: drivers end equal, nothing is lost, nothing is back."""

from dataclasses import replace
from itertools import chain
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.settings import JournalSettings
from tests.storm import times
from tests.wrappers import virtual
from tests.wrappers.schedules import Step, World
from tests.wrappers.scripted import Shape

CALLS = (
    ("store",) * 4
    + ("store_many",)
    + ("store_knowledge",) * 2
    + ("update",) * 6
    + ("update_matched",) * 2
    + ("delete",) * 4
    + ("delete_user",) * 2
    + ("import_new", "import_older", "import_newer", "import_again")
)
EVENTS = (
    ("away",) * 6
    + ("back", "mend", "lose") * 3
    + ("slow", "stuck")
    + ("refuse_keep", "refuse_replace", "refuse_delete", "refuse_forget")
    + ("stop_dispatcher", "start_dispatcher", "journal_lost", "journal_back", "restart")
)

at_once = st.sampled_from((0.0, 0.0, 0.0, 0.001, 0.002, 0.003, 0.005, 0.008, 0.012))
calls = st.builds(
    Step,
    what=st.sampled_from(CALLS),
    at=st.sampled_from((0, 0, 0, 1, 1, 2, 3, 4)),
    on=st.integers(0, 1),
    cancelled=st.sampled_from((None,) * 6 + (0.001, 0.002, 0.004, 0.006, 0.009, 0.015, 0.05)),
    pause=at_once,
)
events = st.builds(
    Step,
    what=st.sampled_from(EVENTS),
    at=st.sampled_from((0, 0, 0, 1, 2)),
    on=st.integers(0, 1),
    pause=at_once,
)
rests = st.sampled_from((0.0, 0.02, 0.15, 0.5))


@st.composite
def bursts(draw: st.DrawFn) -> list[Step]:
    """Calls at once, most of them of one record or user, and then a rest."""
    at = draw(st.integers(0, 4))
    steps = draw(st.lists(st.one_of(calls, calls, calls, events), min_size=1, max_size=8))
    if draw(st.booleans()):
        steps = [replace(step, at=at) for step in steps]
    return [*steps[:-1], replace(steps[-1], pause=draw(rests))]


schedules = st.lists(bursts(), min_size=1, max_size=8).map(lambda all_: [*chain(*all_)])
shapes = st.builds(
    Shape,
    kind=st.sampled_from(
        ("failover", "replicated") * 3
        + ("failover over replicated", "replicated over replicated", "replicated over failover")
    ),
    writes=st.sampled_from(("primary", "journal")),
    acknowledge=st.sampled_from(("journal", "primary", "quorum", "all")),
    reads=st.sampled_from(("primary", "replicas")),
)


def happens(shape: Shape, steps: list[Step], seed: int = 0) -> None:
    """Let it happen to a driver whose journal is in a file, in no time."""
    shm = Path("/dev/shm")  # noqa: S108 - only to be quick
    with TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder, capture_logs() as logs:

        async def whole() -> None:
            random = Random(seed)
            await World(shape, JournalSettings(path=Path(folder)), random).run(steps)

        virtual.run(whole, Random(seed))
    assert not [line for line in logs if line["event"] == "delivery_failed"]


@settings(
    max_examples=times(60, 2_000),
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
@given(shape=shapes, steps=schedules, seed=st.integers(0, 99))
def test_whatever_happens(shape: Shape, steps: list[Step], seed: int) -> None:
    happens(shape, steps, seed)
