"""What windows ask of a model: how much it reads."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Costs: TypeAlias = npt.NDArray[np.int64]


class Reader(ABC):
    """How much of a text the model reads, as a cost in tokens, or in what stands for them.

    Its methods block and may run in several threads at once.
    """

    room: int
    """What one window may cost."""

    sure: int
    """What is read whole for certain. A text that costs more, up to `room`, is looked at again."""

    @abstractmethod
    def surely_reads(self, text: str) -> bool:
        """Whether so short a text is read whole, whatever is in it; no token is counted."""

    @abstractmethod
    def costs(self, text: str) -> Costs:
        """What is before each character and before the end: shape (len(text) + 1,), from 0 up."""

    @abstractmethod
    def reads(self, texts: Sequence[str]) -> list[bool]:
        """Which of the texts are read whole, as they are given to the model."""
