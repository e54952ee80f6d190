"""A Runflow for practice and tests, on loopback."""
