"""What comes into the place of the folder of PostgreSQL's socket harms nobody."""

import os
import shutil
from collections.abc import Callable
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


@pytest.mark.parametrize(
    "put",
    [a_link, a_link_inside, an_open_folder, pytest.param(another_users, marks=needs_root), nothing],
)
def test_the_server_moves_and_the_service_with_it(put: Callable[[Path, Path], None]) -> None:
    with Home.made() as home, home.service() as service:
        service.store("ada", "The kettle is copper.")
        victim = home.temporary.parent / "victim"
        victim.mkdir()
        for name in ("precious", ".s.PGSQL.5432"):
            (victim / name).write_text("kept")
        server = home.postgresql()
        sockets = Path(home.pid_file.read_text().splitlines()[4])
        place = sockets.parent
        shutil.rmtree(place)
        put(place, victim)
        server.kill()
        server.wait(30)
        service.wait_recovered()
        assert service.recalled("ada", "kettle") == ["The kettle is copper."]
        assert Path(home.pid_file.read_text().splitlines()[4]) != sockets
        assert service.stop() in (0, -15)
        assert {path.read_text() for path in victim.iterdir()} == {"kept"}
        assert len(list(victim.iterdir())) == 2
        assert place.exists() == (put is not nothing)
