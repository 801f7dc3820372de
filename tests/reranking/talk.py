"""What the tests of drivers say and read."""

from app.core.memory.base import BaseMemoryDriver
from app.core.memory.records import Memory, Recalled

TALK = [
    "The kettle is made of steel.",
    "A kettle of copper copper",
    "Ada bought the kettle in May.",
    "What is a kettle made of?",
    "copper copper copper copper",
    "The pan is made of copper too",
]
QUERY = "What is the kettle made of?"


def contents(found: list[Memory]) -> list[str]:
    return [memory.content for memory in found]


def scores(found: list[Memory]) -> list[float]:
    return [memory.score for memory in found if memory.score is not None]


def was_degraded(found: list[Memory]) -> bool:
    return isinstance(found, Recalled) and found.degraded


async def say(driver: BaseMemoryDriver, *texts: str, user: str = "ada") -> None:
    for text in texts:
        await driver.store(user, text)
