"""A folder that can't be the embedded PostgreSQL's ends the start with one line that names it."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.drivers.pgvector import PgvectorDriver
from app.drivers.pgvector.access import reached
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.embedding import Embedder
from app.errors import ConfigurationError
from app.settings import DatabaseSettings, Limits
from tests.other_user import needs_root


async def refusal(data: Path, embedder: Embedder) -> str:
    """What opening the driver says when it is refused."""
    with pytest.raises(ConfigurationError) as refused:
        async with PgvectorDriver(DatabaseSettings(data_dir=data), embedder, Limits()):
            pass
    assert "\n" not in refused.value.reason
    assert refused.value.reason.startswith("MEMORY_DATA_DIR: ")
    return refused.value.reason


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A data directory whose `postgresql` is a mount point."""
    point = tmp_path / "data" / "postgresql"
    point.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(point)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        pytest.skip("there is no program `mount`")
    if done.returncode != 0:
        pytest.skip("nothing can be mounted here")
    yield tmp_path / "data"
    subprocess.run(["umount", str(point)], check=True)


@needs_root
async def test_a_mount_point_in_the_place_of_the_cluster(mounted: Path, embedder: Embedder) -> None:
    for _ in range(2):
        said = await refusal(mounted, embedder)
        assert f"{mounted}/postgresql is a mount point" in said
        assert "choose another folder" in said
    (mounted / "postgresql" / "lost+found").mkdir()
    assert f"{mounted}/postgresql is a mount point" in await refusal(mounted, embedder)


async def test_a_cluster_below_a_mount_point_of_its_own_file_system(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    server = EmbeddedPostgres(tmp_path)
    await server.open()
    await server.close()
    assert (tmp_path / "lost+found").is_dir()


async def test_a_folder_with_something_else_in_it(tmp_path: Path, embedder: Embedder) -> None:
    (tmp_path / "postgresql").mkdir()
    (tmp_path / "postgresql" / "theirs").write_text("kept")
    said = await refusal(tmp_path, embedder)
    assert f"{tmp_path}/postgresql is not empty" in said
    assert (tmp_path / "postgresql" / "theirs").read_text() == "kept"


async def test_a_file_in_the_place_of_a_folder(tmp_path: Path, embedder: Embedder) -> None:
    (tmp_path / "postgresql").touch()
    assert f"MEMORY_DATA_DIR: {tmp_path}/postgresql" in await refusal(tmp_path, embedder)
    (tmp_path / "data").touch()
    for path in ("data", "data/x"):
        said = await refusal(tmp_path / path, embedder)
        assert f"{tmp_path / path} can't be used (" in said
    (tmp_path / "postgresql").unlink()
    (tmp_path / "postgresql.log").mkdir()
    assert f"{tmp_path}/postgresql.log can't be used" in await refusal(tmp_path, embedder)


@needs_root
async def test_a_cluster_of_another_user(tmp_path: Path, embedder: Embedder) -> None:
    server = EmbeddedPostgres(tmp_path)
    await server.open()
    await server.close()
    os.chown(tmp_path / "postgresql", 1, 1)
    assert f"{tmp_path}/postgresql belongs to the user" in await refusal(tmp_path, embedder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_folder_that_this_user_may_not_write(tmp_path: Path, embedder: Embedder) -> None:
    for part in ("data", "data/postgresql"):
        (tmp_path / part).mkdir()
    (tmp_path / "data" / "postgresql").chmod(0)
    assert "can't be used (Permission denied)" in await refusal(tmp_path / "data", embedder)
    with pytest.raises(ConfigurationError, match="can't be used"):
        async with reached(DatabaseSettings(data_dir=tmp_path / "data")):
            pass
    (tmp_path / "data").chmod(0o500)
    assert "can't be used (Permission denied)" in await refusal(tmp_path / "data", embedder)
