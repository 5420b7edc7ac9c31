"""Tools that load tests and tests share. Nothing here imports from either."""
