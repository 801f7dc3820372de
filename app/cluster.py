"""Which PostgreSQL it is, by whatever way it is reached: a cluster, and a database of it."""

CLUSTER = "select system_identifier from pg_control_system()"

DATABASE = """
    select system_identifier, oid from pg_control_system(), pg_database
    where datname = current_database()
"""
"""A database that is dropped and made anew under its name has another oid."""


def cluster(system_identifier: int) -> str:
    """The name of a cluster, which physical copies of it have too."""
    return f"postgresql/{system_identifier}"


def database(system_identifier: int, oid: int) -> str:
    """The name of a database."""
    return f"{cluster(system_identifier)}/{oid}"


def is_in(identity: str, cluster: str) -> bool:
    """Whether what an identity names is a database of that cluster."""
    return identity.startswith(f"{cluster}/")
