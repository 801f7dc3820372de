"""How well recall finds the right memories, on a retrieval set given by path."""
