"""Endpoints: one module for each protocol, and the table of them all."""
