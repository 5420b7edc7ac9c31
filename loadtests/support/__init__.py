"""What load tests and tests share; it imports neither."""
