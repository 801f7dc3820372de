"""Every statement, with bound parameters, as a named constant."""
