"""Names of hosts, as a Host header and `MEMORY_ALLOWED_HOSTS` give them."""

import re
from functools import lru_cache
from ipaddress import ip_address

_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")


@lru_cache(maxsize=256)
def host_name(text: str) -> str | None:
    """The name in its one form, or the address as `ip_address` writes it; None: it is neither.

    `LOCALHOST.` is localhost and `[0::1]` is ::1; an IPv6 address has its brackets.
    """
    bracketed = text.startswith("[") and text.endswith("]")
    try:
        address = ip_address(text[1:-1] if bracketed else text)
    except ValueError:
        name = text.lower().removesuffix(".")
        return name if len(name) <= 253 and _NAME.fullmatch(name) else None
    return str(address) if bracketed == (address.version == 6) else None


def parse_hosts(text: str) -> frozenset[str]:
    """The names of a `MEMORY_ALLOWED_HOSTS`; raises ValueError in one line."""
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    if text and not entries:
        raise ValueError("has no name")
    return frozenset(_parse(entry, n) for n, entry in enumerate(entries, 1))


def _parse(entry: str, n: int) -> str:
    name = host_name(entry)
    if name is None:  # not shown: a key could have got into this variable
        raise ValueError(
            f"entry {n}: must be the name of a host, such as api or memory.example, without "
            "scheme, port or *"
        )
    return name
