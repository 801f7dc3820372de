"""Whose memories there are: by an id, and all users with their numbers."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final
from uuid import UUID

from app.core.memory.records import UserCount
from app.core.memory.requests import UserRange, Users
from app.drivers.pinecone.index import at_once
from app.drivers.pinecone.layout import Row, constant, head_id, user_of
from app.drivers.pinecone.reading import Reading
from app.drivers.pinecone.scope import Scope

_MOST_NAMES: Final = 100_000


class Owners:
    """Knows users by their namespaces, whose names are hashes of the users' ids."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._index = reading.index
        self._names: OrderedDict[str, str] = OrderedDict()
        """The ids of users, by owner: a hash is always of the same one."""

    async def of(self, one: UUID) -> list[Row]:
        """The memories of that id, whoever owns them."""
        found = []
        for owner in sorted(await self.owners_of(one)):
            found += [*(await self._reading.rows(owner, [one])).values()]
        return found

    async def owners_of(self, one: UUID) -> set[str]:
        """Who may have a memory of that id."""
        prefix = f"o{one.hex}."
        namespace = self._index.names.owners(one)
        owners: set[str] = set()
        async for ids in self._index.ids(namespace, prefix):
            owners.update(each.removeprefix(prefix) for each in ids)
        head, overlay = head_id(one), self._reading.overlay
        for owner, name in self._lately():
            known = overlay.find(name, head)
            if known is not None and known.value is not None:
                owners.add(owner)
        return owners

    def _lately(self) -> Iterator[tuple[str, str]]:
        """Owners with memories that were written lately, and their namespaces."""
        users = self._index.names.users
        for name in self._reading.overlay.namespaces():
            if name.startswith(users):
                yield name.removeprefix(users), name

    async def all(self) -> list[str]:
        """Every owner that may have memories."""
        users = self._index.names.users
        owners = {owner for owner, _ in self._lately()}
        async for name in self._index.namespaces(users):
            owners.add(name.removeprefix(users))
        return sorted(owners)

    async def page(self, wanted: Users) -> list[UserCount]:
        """One more than the page has of the users who have a memory that has not expired."""
        users = await self.within(wanted)
        found: list[UserCount] = []
        while users and len(found) <= wanted.limit:
            some, users = users[: wanted.limit + 1], users[wanted.limit + 1 :]
            counts = await at_once(self._reading.count, [owner for _, owner in some])
            pairs = zip(some, counts, strict=True)
            found += [UserCount(name, count) for (name, _), count in pairs if count]
        return found

    async def within(self, wanted: UserRange) -> list[tuple[str, str]]:
        """The users in the range who may have memories, by their ids, each with the owner."""
        owners = await self.all()
        names = await at_once(self._name_of, owners)
        return sorted(
            (name, owner)
            for name, owner in zip(names, owners, strict=True)
            if name is not None and wanted.has(name)
        )

    async def _name_of(self, owner: str) -> str | None:
        """The user's id, which each memory has; None where there is no memory."""
        if owner in self._names:
            self._names.move_to_end(owner)
            return self._names[owner]
        row = await self._any_of(owner)
        name = None if row is None else user_of(row)
        if name is not None:
            self._names[owner] = name
            if len(self._names) > _MOST_NAMES:
                self._names.popitem(last=False)
        return name

    async def _any_of(self, owner: str) -> Row | None:
        scope = Scope(owner=owner)
        near = await self._reading.nearest(scope, constant(self._index.dimension), 1)
        if near.rows or near.least is None:
            return near.rows[0] if near.rows else None
        async for rows in self._reading.windows(scope, 1):  # the nearest was deleted lately
            if rows:
                return rows[0]
        return None

    def forget(self, owner: str) -> None:
        """Know nothing of the owner any more."""
        self._names.pop(owner, None)
