"""How far a copy is, in a file beside it: a copy that was killed goes on there."""

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic_core import to_json

from app.core.memory.records import Key
from app.errors import InvalidInput

_FORM = 1


@dataclass(slots=True)
class State:
    """What a copy has done, and what it was about to do when it was last heard of."""

    file: Path
    about: Mapping[str, Any]
    """Which copy it is: of which databases, and of which records."""
    owner: str | None = ""
    """The last user of whom records were copied, maybe not all; None: the knowledge."""
    before: int = 0
    """How many records were copied of the users before."""
    doubt: list[Key] = field(default_factory=list)
    """Records that the target may have got, which nobody has looked up in the source since."""
    records: int = 0
    """How many were copied; what is copied again counts once."""

    @classmethod
    def read(cls, file: Path, about: Mapping[str, Any]) -> Self:
        """The state of this copy, new where there is no file.

        Raises `InvalidInput` for the file of another copy.
        """
        try:
            kept = json.loads(file.read_bytes())
        except FileNotFoundError:
            return cls(file, about)
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{file}: it is no state of a copy ({error})") from None
        if not isinstance(kept, dict) or kept.get("form") != _FORM or kept["about"] != about:
            raise InvalidInput(
                f"{file}: it is the state of another copy; delete it to begin anew, or give this "
                "copy a --state of its own"
            )
        doubt = [(user_id, one) for user_id, one in kept["doubt"]]
        return cls(file, about, kept["owner"], kept["before"], doubt, kept["before"])

    async def begin(self, keys: Sequence[Key]) -> None:
        """Tell, before they are written, that the target is about to get these.

        Another call has to wait until this one is over.
        """
        self.doubt += keys
        await asyncio.to_thread(self._write, self._kept())

    def end(self, keys: Sequence[Key]) -> None:
        """Tell that these, the first of those that were begun, are copied and looked up."""
        owners = [user_id for user_id, _ in keys]
        if owners[-1] != self.owner:
            self.owner, self.before = owners[-1], self.records + owners.index(owners[-1])
        self.records += len(owners)
        del self.doubt[: len(keys)]

    def forget(self) -> None:
        """Delete the file, once the copy is over."""
        self.file.unlink(missing_ok=True)

    def _kept(self) -> bytes:
        return to_json(
            {
                "form": _FORM,
                "about": self.about,
                "owner": self.owner,
                "before": self.before,
                "doubt": self.doubt,
            }
        )

    def _write(self, kept: bytes) -> None:
        """All at once: whoever is killed leaves the old file or the new one."""
        part = self.file.with_name(f"{self.file.name}.part")
        try:
            part.write_bytes(kept)
            os.replace(part, self.file)
        except OSError as error:
            raise InvalidInput(f"{self.file}: {error.strerror}") from error
