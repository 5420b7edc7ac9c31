"""What the operator does while the platform runs: list the repository, load and unload models."""
