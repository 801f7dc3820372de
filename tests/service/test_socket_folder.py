"""What comes into the place of the folder of PostgreSQL's socket harms nobody.

All of it comes in turn, each time into the place where the server is by then, in one life of a
service: the tests look at what became of it.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.other_user import needs_root
from tests.service.home import Home


def a_link(place: Path, victim: Path) -> None:
    place.symlink_to(victim)


def a_link_inside(place: Path, victim: Path) -> None:
    place.mkdir(mode=0o700)
    (place / "s").symlink_to(victim)


def an_open_folder(place: Path, _: Path) -> None:
    place.mkdir()
    (place / "s").mkdir()
    for part in (place, place / "s"):
        part.chmod(0o777)


def another_users(place: Path, _: Path) -> None:
    an_open_folder(place, _)
    for part in (place, place / "s"):
        part.chmod(0o755)
        os.chown(part, 65_534, 65_534)


def nothing(_: Path, __: Path) -> None:
    pass


Put = Callable[[Path, Path], None]
PUT: tuple[Put, ...] = (a_link, a_link_inside, an_open_folder, another_users, nothing)


@dataclass(frozen=True)
class Place:
    """What was found after something came into the place, and after the service's end."""

    recalled: list[str]
    moved: bool
    exit_code: int
    is_there: bool
    victims: dict[str, str]


@pytest.fixture(scope="module")
def places() -> dict[Put, Place]:
    """What became of each place."""
    came: dict[Put, tuple[Path, Path, list[str], bool]] = {}
    with Home.made() as home, home.service() as service:
        service.store("ada", "The kettle is copper.")
        for put in PUT:
            if put is another_users and os.geteuid() != 0:
                continue
            victim = home.temporary.parent / f"victim {put.__name__}"
            victim.mkdir()
            for name in ("precious", ".s.PGSQL.5432"):
                (victim / name).write_text("kept")
            server = home.postgresql()
            sockets = home.sockets
            shutil.rmtree(sockets.parent)
            put(sockets.parent, victim)
            server.kill()
            server.wait(30)
            service.wait_recovered()
            recalled = service.recalled("ada", "kettle")
            came[put] = sockets.parent, victim, recalled, home.sockets != sockets
        code = service.stop()
        return {
            put: Place(
                recalled,
                moved,
                code,
                place.exists(),
                {path.name: path.read_text() for path in victim.iterdir()},
            )
            for put, (place, victim, recalled, moved) in came.items()
        }


@pytest.mark.parametrize(
    "put",
    [pytest.param(put, marks=needs_root if put is another_users else ()) for put in PUT],
)
def test_the_server_moves_and_the_service_with_it(put: Put, places: dict[Put, Place]) -> None:
    place = places[put]
    assert place.recalled == ["The kettle is copper."]
    assert place.moved
    assert place.exit_code in (0, -15)
    assert place.victims == {"precious": "kept", ".s.PGSQL.5432": "kept"}
    assert place.is_there == (put is not nothing)
