"""The model of a database's vectors, by its number there."""

from dataclasses import dataclass

from app.embedding import Embedder, Model, Vector


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    """All vectors of a database are of one, until a re-embedding puts the next in its place.

    Whoever compares or keeps vectors takes both the embedder and the number from one of these: the
    statement fails with `ModelChanged` where the database has another generation by then.
    """

    number: int
    """As the database counts them; 0: no database was opened yet."""
    embedder: Embedder
    sample: Vector | None = None
    """Its vector of the sample; None while no database was opened."""

    @property
    def model(self) -> Model | None:
        """As others are told; None while no database was opened."""
        return None if self.sample is None else Model(self.embedder.name, self.sample)

    @property
    def dimension(self) -> int:
        """The numbers of a vector; the embedder is open."""
        return self.embedder.dimension
