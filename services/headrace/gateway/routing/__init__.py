"""Picks the replica for a request: by load, by sequence, past suspects, or a stored answer."""
