"""The models that ship with the project: how each is made from an ordinary package, and its torch network."""
