"""Files of other programs, as records of this service."""
