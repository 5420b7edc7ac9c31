"""The fleet: its processes, the models they serve, and their addresses."""
