"""What the driver refuses to start with, and what it says to do."""

from collections.abc import Sequence

import asyncpg
import numpy as np
import pytest
from pydantic import SecretStr

from app.drivers.pgvector import PgvectorDriver
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.embedding import Embedder, Vector
from app.errors import ConfigurationError, DriverUnavailable
from app.settings import DatabaseSettings, Limits
from tests.conftest import NewDatabase, database_url
from tests.drivers.conftest import OpenDriver


class AnotherModel(Embedder):
    """The real model with its dimensions in another order, or only some of them."""

    def __init__(self, model: Embedder, dimension: int, step: int = -1) -> None:
        self.name = "another/model"
        self.dimension = dimension
        self.max_tokens = model.max_tokens
        self._model = model
        self._step = step

    async def open(self) -> None:
        await self._model.open()

    async def close(self) -> None:
        pass

    def _change(self, vectors: Vector) -> Vector:
        changed = vectors[..., :: self._step][..., : self.dimension]
        return np.asarray(changed / np.linalg.norm(changed, axis=-1, keepdims=True), np.float32)

    async def embed_query(self, text: str) -> Vector:
        return self._change(await self._model.embed_query(text))

    async def embed(self, texts: Sequence[str]) -> Vector:
        return self._change(await self._model.embed(texts))


async def refusal(url: str, embedder: Embedder, *, migrate: bool = False) -> str:
    """What opening says when it is refused."""
    settings = DatabaseSettings(url=SecretStr(url)).model_copy(update={"migrate": migrate})
    with pytest.raises(ConfigurationError) as refused:
        async with PgvectorDriver(settings, embedder, Limits()):
            pass
    assert "\n" not in str(refused.value)
    assert "hunter2" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("dimension", [384, 128])
async def test_another_model_is_refused(
    new_database: NewDatabase, open_driver: OpenDriver, embedder: Embedder, dimension: int
) -> None:
    url = await new_database()
    driver = await open_driver(url)
    await driver.store("ada", "kettle")
    said = await refusal(url, AnotherModel(embedder, dimension))
    assert "MEMORY_EMBEDDING_MODEL: 'another/model'" in said
    assert f"{dimension} dimensions" in said
    assert "memory-driver reembed" in said


async def test_the_same_model_by_another_name_is_accepted(
    new_database: NewDatabase, open_driver: OpenDriver, embedder: Embedder
) -> None:
    url = await new_database()
    await (await open_driver(url)).store("ada", "kettle")
    same = AnotherModel(embedder, 384, step=1)
    settings = DatabaseSettings(url=SecretStr(url))
    async with PgvectorDriver(settings, same, Limits()) as driver:
        assert len(await driver.recall("ada", query="kettle")) == 1


async def test_a_database_without_the_schema_is_refused_unless_it_may_be_migrated(
    postgres: EmbeddedPostgres, template: str, embedder: Embedder
) -> None:
    admin = await asyncpg.connect(database_url(postgres, "postgres"))
    await admin.execute("create database without_schema")
    url = database_url(postgres, "without_schema")
    said = await refusal(url, embedder)
    assert "alembic upgrade head" in said
    assert "MEMORY_MIGRATE=true" in said
    settings = DatabaseSettings(url=SecretStr(url)).model_copy(update={"migrate": True})
    async with PgvectorDriver(settings, embedder, Limits()) as driver:
        await driver.store("ada", "kettle")
    await admin.execute("drop database without_schema with (force)")
    await admin.close()


async def test_a_schema_of_another_version_is_refused(
    new_database: NewDatabase, embedder: Embedder
) -> None:
    url = await new_database()
    connection = await asyncpg.connect(url)
    await connection.execute("update alembic_version set version_num = 'from the future'")
    await connection.close()
    assert "from the future" in await refusal(url, embedder)
    said = await refusal(url, embedder, migrate=True)
    assert "from the future" in said or "migrated" in said


async def test_an_encoding_that_cannot_keep_every_text_is_refused(
    postgres: EmbeddedPostgres, embedder: Embedder
) -> None:
    admin = await asyncpg.connect(database_url(postgres, "postgres"))
    await admin.execute("create database in_latin1 template template0 encoding 'LATIN1' locale 'C'")
    assert "UTF8" in await refusal(database_url(postgres, "in_latin1"), embedder, migrate=True)
    await admin.execute("drop database in_latin1")
    await admin.close()


async def test_a_role_that_may_not_create_the_extension_is_told_who_may(
    postgres: EmbeddedPostgres, embedder: Embedder
) -> None:
    admin = await asyncpg.connect(database_url(postgres, "postgres"))
    await admin.execute("create role limited login")
    await admin.execute("create database of_limited")
    url = database_url(postgres, "of_limited").replace("memory@", "limited:hunter2@")
    said = await refusal(url, embedder, migrate=True)
    assert "create extension vector" in said
    await admin.execute("drop database of_limited")
    await admin.execute("drop role limited")
    await admin.close()


async def test_a_role_without_rights_is_told_in_one_line(
    postgres: EmbeddedPostgres, new_database: NewDatabase, embedder: Embedder
) -> None:
    admin = await asyncpg.connect(database_url(postgres, "postgres"))
    await admin.execute("create role without_rights login")
    url = (await new_database()).replace("memory@", "without_rights:hunter2@")
    said = await refusal(url, embedder)
    assert "the role needs select on alembic_version, select on embedding_model" in said
    await admin.execute("drop role without_rights")
    await admin.close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:hunter2@127.0.0.1:1/memory",
        "postgresql://ada:hunter2@/memory?host=/nowhere",
        "postgresql://ada:hunter2@nowhere.invalid/memory",
    ],
)
async def test_a_server_that_is_not_there_is_named_without_the_password(
    open_driver: OpenDriver, url: str
) -> None:
    with pytest.raises(DriverUnavailable) as error:
        await open_driver(url)
    assert "can't be reached" in error.value.reason
    assert "hunter2" not in error.value.reason
    assert "nowhere" not in error.value.detail


async def test_a_missing_database_is_unavailable_until_someone_creates_it(
    postgres: EmbeddedPostgres, open_driver: OpenDriver
) -> None:
    with pytest.raises(DriverUnavailable) as error:
        await open_driver(database_url(postgres, "never_made"))
    assert "InvalidCatalogNameError" in error.value.reason
