"""What the environment holds that was meant as a setting and would have done nothing, or harm."""

import difflib
import re
from collections.abc import Container, Mapping
from functools import partial
from io import StringIO
from pathlib import Path

from dotenv.parser import parse_stream

from app.errors import ConfigurationError
from app.settings.named import ENVIRONMENT

_PREFIX = "MEMORY_"
_PLATFORMS = frozenset(
    {
        "MEMORY_AVAILABLE",  # Heroku
        "MEMORY_LIMIT",  # Cloud Foundry
        "MEMORY_PRESSURE_WATCH",  # systemd
        "MEMORY_PRESSURE_WRITE",
    }
)
"""What platforms set for every process."""
_LINK_NAME = re.compile(
    r".+_SERVICE_HOST|.+_SERVICE_PORT(_.+)?|.+_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?"
)
_LINK = re.compile(r"(tcp|udp|sctp)://")


def is_service_link(name: str, value: str | None) -> bool:
    """Whether Kubernetes, or Docker, set the variable to tell where a service of theirs is.

    A Service called memory is MEMORY_PORT=tcp://10.0.0.1:8000, MEMORY_SERVICE_HOST, and so on.
    """
    return _LINK_NAME.fullmatch(name) is not None or (
        name.endswith("_PORT") and _LINK.match(value or "") is not None
    )


def check_variables(
    known: Mapping[str, str], environment: Mapping[str, str], in_file: Mapping[str, str | None]
) -> None:
    """Raise `ConfigurationError` for a variable that looks like a setting and is none.

    `known`: the right name for each name that one could take for a variable's. A variable that is
    empty counts as unset.
    """
    for name, text in environment.items():
        if (name.upper() in known or name.upper().startswith(ENVIRONMENT)) and _is_quoted(text):
            raise ConfigurationError(
                f"{name}: the quotes around its value would be part of it: leave them out (a "
                "shell takes them away; docker's --env-file, for one, keeps them)"
            )
    given = {name.upper(): value for name, value in (*in_file.items(), *environment.items())}
    for name, value in sorted(given.items()):
        if value and not is_service_link(name, value):
            _check_name(name, known, given)


def check_file(path: Path) -> None:
    """Raise `ConfigurationError` for a line of a `.env` file that would be passed over."""
    try:
        text = path.read_text("utf-8") if path.is_file() else ""
    except OSError as error:
        raise ConfigurationError(f"{path.name}: can't be read ({error.strerror})") from error
    for binding in parse_stream(StringIO(text)):
        if binding.error:
            wrong = binding.original.string
            line = binding.original.line + wrong[: -len(wrong.lstrip())].count("\n")
            raise ConfigurationError(
                f"{path.name}: line {line} is not NAME=value, or its quotes don't end"
            )


def _is_quoted(value: str) -> bool:
    value = value.strip()
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\""


def _check_name(name: str, known: Mapping[str, str], given: Container[str]) -> None:
    if known.get(name) == name or name.startswith(ENVIRONMENT) or name in _PLATFORMS:
        return
    shown = ascii(name)[1:-1]  # what can't be seen may be all that is wrong
    if name.startswith(_PREFIX):
        meant = _meant(name, known) or _similar(name, known)
        raise ConfigurationError(
            f"{shown}: there is no such setting; did you mean {meant}?"
            if meant
            else f"{shown}: there is no such setting, and each {_PREFIX}* variable must be one of "
            ".env.example; if another program needs it, give it to that one alone"
        )
    meant = _meant(name, known)
    if meant is not None and meant not in given:
        raise ConfigurationError(
            f"{shown}: there is no such setting; did you mean {meant}? If it is another program's, "
            f"set {meant} too: it may be empty"
        )


def _meant(name: str, known: Mapping[str, str]) -> str | None:
    """The variable that this is, but for another prefix, as MEM_, or one or two wrong letters."""
    head, nested, rest = name.partition("__")
    if nested and _is_near(head, ENVIRONMENT):
        return f"{ENVIRONMENT}{rest}"
    first, _, last = name.partition("_")
    like_ours = f"{_PREFIX}{last}" if first.startswith("MEM") else name
    exact = known.get(name) or known.get(name.removeprefix(_PREFIX)) or known.get(like_ours)
    near = [spelled for spelled in known if _is_near(name, spelled)]
    return exact or (known[min(near, key=partial(_distance, name))] if near else None)


def _similar(name: str, known: Mapping[str, str]) -> str | None:
    if name.startswith(ENVIRONMENT[:-1]):
        return f"{ENVIRONMENT}<NAME>__<OPTION>"
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return known[found[0]] if found else None


def _is_near(name: str, spelled: str) -> bool:
    """One wrong letter in a short name, two in a long one; what is no letter does not count."""
    one, other = (re.sub(r"[^A-Z0-9]", "", each) for each in (name, spelled))
    most = 1 if len(other) < 12 else 2
    return abs(len(one) - len(other)) <= most and _distance(one, other) <= most


def _distance(one: str, other: str) -> int:
    """Letters to add, drop or change, or pairs to swap (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, wanted in enumerate(other, 1):
            least = min(before[j] + 1, row[-1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                least = min(least, last[j - 2] + 1)
            row.append(least)
    return row[-1]
