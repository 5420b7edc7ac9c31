"""Models on disk: their specs, the repository, preprocessing, the zoo.

Imports nothing of headrace.
"""
