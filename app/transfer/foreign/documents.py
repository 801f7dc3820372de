"""The objects of a file: JSON lines, CSV, or one JSON document with a list; a few at a time."""

import csv
import io
import json
from collections.abc import Iterator
from typing import IO, Any, Final, TypeAlias

from app import strict_json
from app.errors import InvalidInput

Item: TypeAlias = tuple[str, dict[str, Any]]
"""Where an object is in the file, such as "line 7", and the object."""

_PIECE: Final = 1 << 18
_MOST: Final = 64 << 20
"""Characters of one object, or of what is beside the list: a document that is not one has more."""
_SPACE: Final = " \t\r\n"


def lines_of(file: IO[bytes]) -> Iterator[Item]:
    """The objects of JSON lines; empty lines count, and are none."""
    for number, line in enumerate(file, 1):
        if line.strip():
            place = f"line {number}"
            try:
                found = strict_json.decode(line)
            except strict_json.NotJson as error:
                raise InvalidInput(f"{place}: invalid JSON: {error}") from None
            yield place, _object(found, place)


def rows_of(file: IO[bytes]) -> Iterator[Item]:
    """The rows of a CSV with a head, as RFC 4180 has it; a cell that is empty is not there."""
    csv.field_size_limit(_MOST)
    reader = csv.DictReader(io.TextIOWrapper(file, "utf-8-sig", newline=""), strict=True)
    try:
        for row in reader:
            place = f"line {reader.line_num}"
            if None in row or None in row.values():
                raise InvalidInput(f"{place}: the row has not as many cells as the head")
            yield place, {name: cell for name, cell in row.items() if cell != ""}
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidInput(f"line {reader.line_num}: {error}") from None


def listed_in(file: IO[bytes], name: str) -> Iterator[Item]:
    """The objects of the list that is the document, or its member `name`."""
    yield from _Document(io.TextIOWrapper(file, "utf-8-sig")).items(name)


class _Document:
    """Reads a document from its beginning, as much as the next value needs."""

    def __init__(self, text: IO[str]) -> None:
        self._text = text
        self._rest = ""
        self._ended = False
        self._decoder = json.JSONDecoder()

    def items(self, name: str) -> Iterator[Item]:
        first = self._peek()
        if first == "[":
            yield from self._list(name)
        elif first == "{":
            self._take()
            while self._peek() != "}":
                key = self._value()
                self._expect(":")
                if key == name and self._peek() == "[":
                    yield from self._list(name)
                    return  # what follows the list tells nothing of it
                self._check(str(key), self._value())
                if self._peek() == ",":
                    self._take()
            raise InvalidInput(f"the document has no list {name!r}")
        else:
            raise InvalidInput("the file is no JSON document")

    def _check(self, key: str, value: object) -> None:
        if key == "next" and value is not None:
            raise InvalidInput("this is one page of several: put the pages into one list")

    def _list(self, name: str) -> Iterator[Item]:
        self._take()
        number = 0
        while self._peek() != "]":
            place = f"{name}[{number}]"
            yield place, _object(self._value(), place)
            number += 1
            if self._peek() == ",":
                self._take()
            elif self._peek() != "]":
                raise InvalidInput(f"{place}: no , follows it")

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._rest)
            except RecursionError:
                raise InvalidInput("nested too deeply") from None
            except ValueError as error:
                if self._ended or len(self._rest) > _MOST:
                    raise InvalidInput(f"invalid JSON, or the file is cut: {error}") from None
                self._read()
                continue
            if end == len(self._rest) and not self._ended:  # a number may go on
                self._read()
                continue
            self._rest = self._rest[end:]
            return value

    def _peek(self) -> str:
        """The next character that is no space, which stays."""
        self._rest = self._rest.lstrip(_SPACE)
        while not self._rest:
            if self._ended:
                raise InvalidInput("the file is cut: its JSON does not end")
            self._read()
            self._rest = self._rest.lstrip(_SPACE)
        return self._rest[0]

    def _take(self) -> None:
        self._rest = self._rest[1:]

    def _expect(self, character: str) -> None:
        if self._peek() != character:
            raise InvalidInput(f"invalid JSON: {character} is missing")
        self._take()

    def _read(self) -> None:
        """At least as much as there is: the work is in proportion to the length of a value."""
        try:
            piece = self._text.read(max(_PIECE, len(self._rest)))
        except UnicodeDecodeError as error:
            raise InvalidInput(f"the file is not UTF-8: {error.reason}") from None
        self._ended = not piece
        self._rest += piece


def _object(found: object, place: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise InvalidInput(f"{place}: it is no JSON object")
    return found
