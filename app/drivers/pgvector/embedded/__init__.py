"""A PostgreSQL of the service's own, from a wheel, for where no server is configured."""
