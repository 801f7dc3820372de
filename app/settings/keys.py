"""API keys: who holds one, of which tenant, and what it may do.

`MEMORY_API_KEYS` is a comma-separated list of entries. An entry is a key, plain or as
`sha256:<64 hex digits>`, and then, in any order, `;name=crm`, `;tenant=acme` and
`;scopes=read+write`.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, TypeVar, get_args

from app.settings.limits import TENANT

Scope: TypeAlias = Literal["read", "write", "admin"]
SCOPES: Final[frozenset[Scope]] = frozenset(get_args(Scope))

_HASHED = re.compile(r"sha256:[0-9a-fA-F]{64}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What is known of a key: its SHA-256 digest, 32 bytes, and what its holder may do."""

    digest: bytes = field(repr=False)
    name: str | None = None
    """What the log calls it."""
    tenant: str | None = None
    """Whose records it reaches, and none else; without a tenant, those of no tenant."""
    scopes: frozenset[Scope] = SCOPES
    """Exactly what is allowed: none of them implies another."""


def parse_keys(text: str) -> tuple[ApiKey, ...]:
    """The keys of a `MEMORY_API_KEYS`.

    Raises ValueError in one line that tells the entry by its number: any text of it may be a key.
    """
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    if text and not entries:
        raise ValueError("has no key")
    keys = tuple(_parse(entry, f"entry {n}") for n, entry in enumerate(entries, 1))
    _refuse_twice((key.digest for key in keys), "key")
    _refuse_twice((key.name for key in keys), "name")
    return keys


def _parse(entry: str, where: str) -> ApiKey:
    key, *rest = (part.strip() for part in entry.split(";"))
    given: dict[str, str] = {}
    for part in rest:
        parameter, _, value = part.partition("=")
        if parameter not in _PARAMETERS:
            raise ValueError(f"{where}: after a ; come name=, tenant= or scopes=")
        if parameter in given:
            raise ValueError(f"{where}: {parameter} is given twice")
        given[parameter] = value
    return ApiKey(
        digest=_digest(key, where),
        name=_read(given, "name", _name, where),
        tenant=_read(given, "tenant", _tenant, where),
        scopes=_read(given, "scopes", _scopes, where) or SCOPES,
    )


def _digest(key: str, where: str) -> bytes:
    if not key:
        raise ValueError(f"{where}: has no key")
    if len(key) > 1 and key[0] == key[-1] and key[0] in "'\"":
        raise ValueError(f"{where}: the quotes around it would be part of the key: leave them out")
    if key[:7].lower() != "sha256:":
        _refuse_word(key, where)
        return hashlib.sha256(key.encode()).digest()
    if not _HASHED.fullmatch(key):
        raise ValueError(f"{where}: a hashed key is sha256: and 64 hex digits")
    return bytes.fromhex(key[7:])


def _refuse_word(key: str, where: str) -> None:
    """Refuse what a comma in the wrong place would make a key, which may do everything."""
    words = key.lower().split("+")
    if SCOPES.issuperset(words):
        raise ValueError(f"{where}: {words[0]!r} is a scope, not a key: scopes are joined by +")
    parameter, is_given, _ = key.lower().partition("=")
    parameter = parameter.rstrip()
    if is_given and parameter in _PARAMETERS:
        raise ValueError(f"{where}: {parameter}= is no key: it comes after a key and a ;")


def _read(
    given: Mapping[str, str], parameter: str, read: Callable[[str], Value | None], where: str
) -> Value | None:
    if parameter not in given:
        return None
    value = read(given[parameter])
    if value is None:
        raise ValueError(f"{where}: {parameter} {_PARAMETERS[parameter]}")
    return value


_PARAMETERS = {
    "name": "must be 1 to 64 letters, digits, . _ and -",
    "tenant": "must be 1 to 32 letters, digits, _ and -",
    "scopes": "must be read, write and admin, each at most once, joined by +",
}


def _name(value: str) -> str | None:
    return value if _NAME.fullmatch(value) else None


def _tenant(value: str) -> str | None:
    return value if TENANT.fullmatch(value) else None


def _scopes(value: str) -> frozenset[Scope] | None:
    names = value.split("+")
    scopes = frozenset(scope for scope in SCOPES if scope in names)
    return scopes if len(scopes) == len(names) else None


def _refuse_twice(values: Iterable[object], what: str) -> None:
    first: dict[object, int] = {}
    for n, value in enumerate(values, 1):
        if value is not None and value in first:
            raise ValueError(f"entries {first[value]} and {n} have the same {what}")
        first[value] = n
