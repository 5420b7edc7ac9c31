"""The release gate: users by Locust against a running server, exact figures, and objectives that they must meet."""
