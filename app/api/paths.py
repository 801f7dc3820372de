"""Free text in a path: what a proxy may rewrite is refused, with the route that takes any text."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from urllib.parse import unquote

from fastapi import Request
from starlette.convertors import Convertor, StringConvertor, register_url_convertor

from app.api.forwarding import was_forwarded
from app.errors import InvalidInput

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


class _AnyText(StringConvertor):
    """A path parameter that may hold slashes and line breaks: a user id is any text."""

    regex = r"[\s\S]*"


register_url_convertor("any", _AnyText())

_DECODINGS = 3
"""In how many forms a text is looked at: as it came, and decoded once and twice, as by proxies."""


def instead(route: str) -> Callable[[Endpoint], Endpoint]:
    """Mark which route takes the same in its body; none can have free text in its path without."""

    def mark(endpoint: Endpoint) -> Endpoint:
        vars(endpoint)["instead"] = route
        return endpoint

    return mark


def free_text(
    endpoint: Callable[..., Any], convertors: dict[str, Convertor[Any]]
) -> list[tuple[str, str]]:
    """The path parameters that may hold any text, each with the route that takes it in its body."""
    names = [name for name, convertor in convertors.items() if isinstance(convertor, _AnyText)]
    route: str | None = vars(endpoint).get("instead")
    if names and route is None:
        raise TypeError(f"{endpoint.__qualname__} lacks @instead(route)")
    return [(name, str(route)) for name in names]


def check_free_text(request: Request, parameters: Iterable[tuple[str, str]]) -> None:
    """Refuse what a proxy may have rewritten, or may rewrite: it would mean another record."""
    for name, route in parameters:
        if _is_rewritable(request.path_params[name]):
            why = "a proxy may rewrite this in a path"
        elif was_forwarded(request):  # what it was before can't be seen any more
            why = "a proxy passed this on, and may have rewritten the path"
        else:
            continue
        raise InvalidInput(f"{why}: {route} takes any {name} in its body", ("path", name))


def _is_rewritable(text: str) -> bool:
    """Whether it has a backslash, or a segment that is empty, `.` or `..`, also `..;x`."""
    for _ in range(_DECODINGS):
        segments = (segment.partition(";")[0] for segment in text.split("/"))
        if "\\" in text or any(segment in {"", ".", ".."} for segment in segments):
            return True
        text = unquote(text)
    return False
