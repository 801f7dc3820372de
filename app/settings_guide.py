"""`python -m app.settings_guide` writes docs/settings.md from the settings' own descriptions."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from app.settings import (
    AutomemSettings,
    CacheSettings,
    DatabaseSettings,
    FailoverSettings,
    PineconeSettings,
    RedisSettings,
    ReplicatedSettings,
    Settings,
    WeaviateSettings,
    all_groups,
    variable_name,
    variables,
)

GUIDE = Path("docs/settings.md")

_OF_DRIVERS = (
    AutomemSettings,
    CacheSettings,
    DatabaseSettings,
    FailoverSettings,
    PineconeSettings,
    RedisSettings,
    ReplicatedSettings,
    WeaviateSettings,
)
"""Groups whose settings a named driver may have of its own."""

_HEAD = """\
# Settings

Every variable that the service reads. `python -m app.settings_guide` writes this page from
`app/settings/`; a test compares the two.

- The service reads the environment and a file `.env` in its working directory
  (see [.env.example](../.env.example)). The environment outranks the file.
- An empty variable counts as unset.
- A wrong value ends the start with one line that names the variable. So does a name that is no
  setting: any other `MEMORY_*`, and any name that differs from a setting's by a letter or two, such
  as `DATABSE_URL` ([decision 21](decisions/0021-names-that-are-nearly-settings.md)).
- Durations are in seconds, lengths of texts in Unicode characters.
- A [named driver](drivers/named.md) may have the settings of its type for itself, under the names
  in the column *option*. What its table leaves out is as the variable says.
"""


def render() -> str:
    """The page as text."""
    return "\n".join([_HEAD, *(_section(kind) for kind in all_groups())])


def _section(kind: type[BaseSettings]) -> str:
    of_driver = issubclass(kind, _OF_DRIVERS)
    columns = ["variable", *(["option"] if of_driver else []), "default", "allowed", "meaning"]
    rows = [_row(columns), _row(["---"] * len(columns))]
    for name, option, field in _fields(kind):
        cells = [
            f"`{name}`",
            *([f"`{option}`"] if of_driver else []),
            _code(_default(field)),
            _allowed(field),
            field.description or "",
        ]
        rows.append(_row(cells))
    title = kind.__name__.removesuffix("Settings") or "Service"
    said = "The service itself." if kind is Settings else inspect.getdoc(kind) or ""
    return "\n".join([f"## {title}", "", said, "", *rows, ""])


def _fields(kind: type[BaseSettings]) -> Iterator[tuple[str, str, FieldInfo]]:
    """Each variable of the group, with the name of its field."""
    known = {name for name, _ in variables()}
    for field, info in kind.model_fields.items():
        name = variable_name(kind, field)
        if name in known:
            yield name, field, info


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _default(field: FieldInfo) -> str:
    """As it is written in a variable; an unset one is an empty text."""
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _allowed(field: FieldInfo) -> str:
    """The values that the type and the bounds allow, where they say more than that it is text."""
    for kind in (field.annotation, *get_args(field.annotation)):  # an optional one is a union
        if get_origin(kind) is Literal:
            return ", ".join(f"`{value}`" for value in get_args(kind))
        if kind is bool:
            return "`true`, `false`"
    return " ".join(filter(None, map(_bound, field.metadata)))


def _bound(constraint: Any) -> str:
    for attribute, said in _BOUNDS.items():
        bound = getattr(constraint, attribute, None)
        if bound is not None:
            return said.format(bound)
    return ""


_BOUNDS = {
    "ge": "from {:,}",
    "gt": "over {:,}",
    "le": "to {:,}",
    "max_length": "to {:,} characters",
}
"""How the constraints of a field are told, in this order."""


if __name__ == "__main__":
    GUIDE.write_text(render())
