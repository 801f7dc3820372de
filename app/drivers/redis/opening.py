"""The generation in use: made in a new database, else checked, with the model of its vectors."""

from contextlib import suppress
from secrets import token_hex

from app.drivers.redis.database import Database
from app.drivers.redis.embedders import Embedders
from app.drivers.redis.index import Index
from app.drivers.redis.layout import Names
from app.drivers.redis.meta import KEEPS_NEXT, LAYOUT, About, Meta, read_meta
from app.drivers.redis.server import Server
from app.embedding import Embedder, Model
from app.errors import ConfigurationError, DatabaseChanged, MemoryServiceError
from app.logs import get_logger
from app.ranking.words import VERSION
from app.settings import RedisSettings

_log = get_logger(__name__)

_TRIES = 3


class Opening:
    """Finds the generation in use of one namespace, and loads its model."""

    def __init__(
        self, settings: RedisSettings, server: Server, embedders: Embedders, language: str
    ) -> None:
        self.names = Names(settings.namespace)
        self.server = server
        self.embedders = embedders
        self.language = language
        self._settings = settings
        self._told = ""
        """The name of the model that the log was told to configure."""

    async def meta(self) -> Meta | None:
        """What the database tells of itself; None where there is none."""
        return await read_meta(self.server, self.names)

    async def database(self) -> Database:
        """The generation in use, which is made where nothing is.

        Raises `ConfigurationError`, or `DriverUnavailable` when it may work later.
        """
        ours = await self.embedders.model()
        for _ in range(_TRIES):
            meta = await self._made(ours)
            self._check_layout(meta)
            embedder = await self._embedder(meta, ours)
            await self._check_words(meta)
            token = meta.token or await self._new()
            database = self.of(meta, meta.generation, embedder, token)
            await database.index.open(embedder.dimension)
            with suppress(DatabaseChanged):
                await database.ask()
                return database
            await self._drop_unused(database)
        raise DatabaseChanged(reason="it changes again and again")

    def of(self, meta: Meta, generation: int, embedder: Embedder, token: str) -> Database:
        """A generation, as the driver reads and writes it."""
        names = Names(self._settings.namespace, generation)
        index = Index(self.server, names, self._settings)
        name = meta.name or token
        about = meta.about_next if generation == meta.next else meta.about
        model = (about or meta.about).model
        return Database(self.server, names, index, embedder, model, self.language, token, name)

    async def _made(self, ours: Model) -> Meta:
        meta = await self.meta()
        if meta is None:
            about = About(ours, self.language, VERSION).written()
            await self.server.ask(("HSETNX", self.names.meta, "about", about))
            meta = await self.meta()
        if meta is None:
            raise DatabaseChanged(reason="it was emptied meanwhile")
        return meta

    async def _new(self) -> str:
        """What a new database is known by."""
        key = self.names.meta
        _, token = await self.server.ask(("HSETNX", key, "id", token_hex(16)), ("HGET", key, "id"))
        return str(token, "ascii")

    async def _drop_unused(self, database: Database) -> None:
        """Drop the index that was made of a generation which nobody uses any more."""
        meta = await self.meta()
        if meta and database.names.generation not in (meta.generation, meta.next):
            with suppress(MemoryServiceError):
                await database.index.drop()

    def _check_layout(self, meta: Meta) -> None:
        if meta.about.layout not in (LAYOUT, KEEPS_NEXT):
            raise ConfigurationError(
                f"{self._settings.called('namespace')}: the records there are laid out by another "
                "version of the service: use that, or another namespace"
            )

    async def _embedder(self, meta: Meta, ours: Model) -> Embedder:
        """The embedder of the records' model.

        It is loaded where the service has the model of the next generation, or of the one before:
        the configured one, or one that it came to have in the same way. Any other is refused. A
        model is known by its vector of one sentence, whatever it is called.
        """
        current = meta.about.model
        found = self.embedders.find(current)
        if found is None:
            near = [each.model for each in (meta.about_next, meta.about_before) if each]
            if not any(self.embedders.find(each) for each in near):
                raise ConfigurationError(
                    f"MEMORY_EMBEDDING_MODEL: {ours.name!r} ({ours.dimension} dimensions) is not "
                    f"the model of this database's vectors ({current.name}, {current.dimension} "
                    "dimensions): set it back, or choose another "
                    f"{self._settings.called('namespace')}"
                )
            found = await self.embedders.load(current)
        if found is not self.embedders.configured and self._told != found.name:
            self._told = found.name
            _log.warning(
                "other_model_in_use",
                model=found.name,
                configured=ours.name,
                detail=f"set MEMORY_EMBEDDING_MODEL to {found.name}",
            )
        return found

    async def _check_words(self, meta: Meta) -> None:
        """Refuse words of another language or version; where there are none, take ours."""
        known = meta.about
        if (known.language, known.words) == (self.language, VERSION):
            return
        names = Names(self._settings.namespace, meta.generation)
        [users] = await self.server.ask(("ZCARD", names.of("users")))
        if users:
            raise ConfigurationError(
                f"MEMORY_RECALL_LANGUAGE: the words of the stored memories are "
                f"{known.language}, version {known.words}, not {self.language}, version "
                f"{VERSION}: set it back, or export the records into another "
                f"{self._settings.called('namespace')}"
            )
        changed = About(known.model, self.language, VERSION, known.layout)
        await self.server.ask(("HSET", self.names.meta, "about", changed.written()))
