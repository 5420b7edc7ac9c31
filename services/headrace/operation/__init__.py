"""The operator of a running platform: lists the repository, loads and unloads models."""
