"""The project's own models: the recipe of each from an ordinary package, and its torch network."""
