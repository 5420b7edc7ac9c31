"""This process and those below it: what ends them, their threads, their folder."""
