"""A journal in files is read by nobody but the service's user."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.errors import ConfigurationError
from app.journal.entries import Write
from app.journal.journal import Journal
from app.settings import JournalSettings
from tests.other_user import as_user, needs_root, reading, uids


@pytest.fixture
def generous() -> Iterator[None]:
    """A process whose new files everybody may write, unless it says otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def used(folder: Path) -> dict[str, int]:
    """The modes of the files of a journal, while it is used."""
    journal = Journal(JournalSettings(path=folder), "main")
    await journal.open(["first"])
    await journal.append([Write(verb="delete_user", user_id="ada")], ["first"])
    found = modes(folder)
    await journal.close()
    return found


def modes(folder: Path) -> dict[str, int]:
    """Those of the files in it; where root asks, other users try to read them."""
    files = list(folder.iterdir())
    if os.geteuid() == 0:
        for uid in uids():
            assert as_user(uid, reading(*(path for path in files if path.name != "theirs"))) == ""
    return {path.name: mode(path) for path in files}


@pytest.mark.usefixtures("generous")
async def test_its_files_and_its_folder_are_its_users_alone(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    assert await used(folder) == {"main.sqlite": 0o600, "main.sqlite-wal": 0o600}
    assert mode(folder) == 0o700


@pytest.mark.usefixtures("generous")
async def test_files_that_were_open_to_all_are_closed(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    await used(folder)
    (folder / "main.sqlite").chmod(0o644)
    (folder / "main.sqlite-wal").touch(0o666)
    folder.chmod(0o755)
    assert await used(folder) == {"main.sqlite": 0o600, "main.sqlite-wal": 0o600}
    assert mode(folder) == 0o700


@pytest.mark.usefixtures("generous")
async def test_a_folder_with_other_things_stays_open_and_the_files_are_closed(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o755)
    (folder / "theirs").touch(0o644)
    found = await used(folder)
    assert found.pop("theirs") == 0o644
    assert set(found.values()) == {0o600}
    assert mode(folder) == 0o755


@needs_root
async def test_a_file_that_another_user_has_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "main.sqlite").touch()
    os.chown(tmp_path / "main.sqlite", 65_534, 65_534)
    with pytest.raises(ConfigurationError, match="it belongs to the user 65534") as refused:
        await used(tmp_path)
    assert refused.value.reason.startswith(f"MEMORY_JOURNAL_PATH: {tmp_path}/main.sqlite")
    assert "\n" not in refused.value.reason


async def test_a_link_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "main.sqlite").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="it is no file"):
        await used(tmp_path)
    assert not (tmp_path / "elsewhere").exists()
