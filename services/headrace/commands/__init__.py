"""The commands of `headrace`, one module each, and the terminal that they share."""
