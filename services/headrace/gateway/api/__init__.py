"""Endpoints: one module for each group of them, and the table of all."""
