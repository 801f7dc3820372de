"""Whatever happens in whatever order: drivers end equal, nothing is lost, nothing is back.

Hypothesis draws a whole schedule, not one rule of a state machine after the other: calls have to go
on while others begin, all in one event loop. The loop's time is virtual, so that a schedule with
its seed always does the same, shrinks, and takes a twentieth of a second. What two processes do on
one PostgreSQL takes its time, and is tried less often.
"""

from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.settings import JournalSettings
from tests.conftest import NewDatabase
from tests.storm import times
from tests.wrappers import virtual
from tests.wrappers.schedules import Step, World
from tests.wrappers.scripted import Shape

CALLS = (
    ("store",) * 4
    + ("store_many",)
    + ("store_knowledge",) * 2
    + ("store_once",) * 4
    + ("store_other", "store_once_many")
    + ("store_for_a_while",) * 2
    + ("update",) * 6
    + ("update_matched", "update_for_a_while") * 2
    + ("update_for_ever",)
    + ("delete",) * 4
    + ("delete_user",) * 2
    + ("put",) * 4
    + ("put_nothing", "store_beside")
    + ("import_new", "import_older", "import_newer", "import_again")
)
EVENTS = (
    ("away",) * 6
    + ("back", "mend", "lose") * 3
    + ("slow", "stuck")
    + ("refuse_keep", "refuse_replace", "refuse_delete", "refuse_forget", "refuse_put")
    + ("stop_dispatcher", "start_dispatcher", "journal_lost", "journal_back", "restart")
    + ("leases_end",) * 2
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


def possible(steps: list[Step]) -> list[Step]:
    """Without what stores a deleted record again where leases end.

    A delete whose writer stood still would undo that.
    """
    if any(step.what == "leases_end" for step in steps):
        again = ("import", "store_o")
        return [step for step in steps if not step.what.startswith(again)]
    return steps


schedules = st.lists(bursts(), min_size=1, max_size=8).map(lambda all_: possible([*chain(*all_)]))
shapes = st.builds(
    Shape,
    kind=st.sampled_from(
        ("failover", "replicated") * 3
        + ("failover over replicated", "replicated over replicated", "replicated over failover")
    ),
    writes=st.sampled_from(("primary", "journal")),
    acknowledge=st.sampled_from(("journal", "primary", "quorum", "all")),
    reads=st.sampled_from(("primary", "replicas")),
    atomic=st.sampled_from((True, True, True, False)),
).filter(lambda shape: shape.atomic or "failover" not in shape.kind)

alone = shapes.filter(lambda shape: " over " not in shape.kind)


def happens(shape: Shape, steps: list[Step], seed: int = 0) -> None:
    """Let it happen to a driver whose journal is in a file, in no time."""
    shm = Path("/dev/shm")  # noqa: S108 - only to be quick
    with TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder, capture_logs() as logs:

        async def whole() -> None:
            random = Random(seed)
            await World(shape, JournalSettings(path=Path(folder)), random).run(steps)

        virtual.run(whole, Random(seed))
    assert not [line for line in logs if line["event"] == "delivery_failed"]


STORE = Step("store")

tried = partial(
    settings,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


@tried(max_examples=times(60, 2_000))
@example(  # its inner driver had still to decide, and the outer one gave it up
    Shape(kind="replicated over replicated"), [Step("update", cancelled=0.009)], 0
)
@example(  # a store after a deletion that waits, or that failed
    Shape(kind="failover"), [Step("away"), Step("delete_user", pause=0.1), Step("back"), STORE], 0
)
@example(Shape(), [Step("away"), Step("delete_user", pause=0.1), Step("back"), STORE], 0)
@given(shape=shapes, steps=schedules, seed=st.integers(0, 99))
def test_whatever_happens(shape: Shape, steps: list[Step], seed: int) -> None:
    happens(shape, steps, seed)


@tried(max_examples=times(2, 100))
@given(shape=alone, steps=schedules, seed=st.integers(0, 99))
async def test_whatever_happens_to_two_processes_on_one_journal(
    new_database: NewDatabase, shape: Shape, steps: list[Step], seed: int
) -> None:
    journal = JournalSettings(url=SecretStr(await new_database()))
    with capture_logs() as logs:
        await World(shape, journal, Random(seed), processes=2).run(steps)
    assert not [line for line in logs if line["event"] == "delivery_failed"]
