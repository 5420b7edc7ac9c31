"""Picks the replica that answers a request: by load, by sequence, past suspects, or from the cache."""
