"""What every request's body and parameters share."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

from app.api.limits import refusal


class Known(BaseModel):
    """Fields of which no other may be given."""

    # What a caller sent is nothing for the log, whatever fails.
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, value: Any) -> Any:
        """Tell the first unknown field only: a million of them can be in one body."""
        if isinstance(value, dict):
            for name in value:
                if name not in cls.model_fields:
                    known = ", ".join(cls.model_fields)
                    raise refusal("extra_forbidden", f"unknown; there are {known}", (name,))
        return value


class Fields(Known):
    """A body: its JSON has the types that it should have."""

    model_config = ConfigDict(strict=True)

    many: ClassVar[bool] = False
    """Whether it is about many records, and so may be as large as a body may be."""
    batch: ClassVar[str | None] = None
    """The field with the entries of a batch, where there is one; each entry has `new`."""


class Changes(Fields):
    """A JSON merge patch."""

    def patch(self) -> dict[str, Any]:
        """The fields that were sent: null takes away, and what is absent stays."""
        return self.model_dump(exclude_unset=True)
