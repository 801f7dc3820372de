"""The one table that a run prints."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

_HEADINGS = ("figure", "ranking", "measured", "limit in this run", "ratio", "wanted", "met")


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: what the service reached, round by round, and what that is held against.

    With `limits`, the ratio is that of each round's pair, so that what else the machine did in
    between cancels out, and `wanted` bounds its median. Without, `wanted` bounds `measured`.
    """

    name: str
    unit: str
    measured: Sequence[float]
    wanted: float
    limits: Sequence[float] | None = None
    at_most: bool = False
    ranking: str = ""

    @property
    def ratios(self) -> list[float]:
        """Measured over limit, by round; empty without limits."""
        pairs = zip(self.measured, self.limits or self.measured, strict=True)
        return [] if self.limits is None else [measured / limit for measured, limit in pairs]

    @property
    def met(self) -> bool:
        """Whether the median is within what is wanted."""
        value = median(self.ratios or self.measured)
        return value <= self.wanted if self.at_most else value >= self.wanted

    def row(self) -> tuple[str, ...]:
        """The table's cells: medians, with the smallest and the largest."""
        bound = "≤" if self.at_most else "≥"
        unit = "" if self.limits else f" {self.unit}"
        return (
            self.name,
            self.ranking,
            _spread(self.measured, self.unit),
            _spread(self.limits, self.unit) if self.limits else "",
            _spread(self.ratios) if self.limits else "",
            f"{bound} {_short(self.wanted)}{unit}",
            "yes" if self.met else "NO",
        )


def render(figures: Sequence[Figure]) -> str:
    """The table, as Markdown."""
    rows = [_HEADINGS, *(figure.row() for figure in figures)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(_HEADINGS))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _spread(values: Sequence[float], unit: str = "") -> str:
    shown = f"{_short(median(values))} ({_short(min(values))} to {_short(max(values))})"
    return f"{shown} {unit}".rstrip()


def _short(value: float) -> str:
    """Three digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"
