"""The catalogue of bad requests, as data and as the bytes that the data stand for."""
