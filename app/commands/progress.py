"""How far a long command is: on a terminal as a line that changes, for programs as lines of JSON.

Both go to standard error: standard output may be the file.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

_EVERY = 1.0
"""Seconds from one line of JSON to the next."""


@contextmanager
def shown(
    what: str, done: Callable[[], int], total: Callable[[], int | None], *, as_json: bool
) -> Iterator[None]:
    """While the block runs, tell how many records are `done` of `total`, where that is known.

    Nothing is told where nobody looks: standard error is no terminal, and no JSON is wanted.
    """
    if not as_json and not sys.stderr.isatty():
        yield
        return
    over, started = Event(), monotonic()
    watch = _lines_of_json if as_json else _line_on_a_terminal
    watcher = Thread(target=watch, args=(what, done, total, over, started), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _lines_of_json(
    what: str,
    done: Callable[[], int],
    total: Callable[[], int | None],
    over: Event,
    started: float,
) -> None:
    while not over.wait(_EVERY):
        records, seconds, most = done(), monotonic() - started, total()
        rate = records / seconds
        left = None if most is None or not rate else round(max(0, most - records) / rate, 1)
        told = {"command": what, "records": records, "total": most}
        told |= {"records_per_second": round(rate, 1), "seconds_left": left}
        typer.echo(json.dumps(told), err=True)


def _line_on_a_terminal(
    what: str,
    done: Callable[[], int],
    total: Callable[[], int | None],
    over: Event,
    started: float,
) -> None:
    with _progress() as progress:
        task = progress.add_task(what, total=None, rate="")
        while True:
            ended = over.wait(0.1)
            records = done()
            rate = records / max(monotonic() - started, 1e-9)
            progress.update(task, completed=records, total=total(), rate=f"{rate:,.0f}/s")
            if ended:
                return


def _progress() -> "Progress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        expand=False,
    )
