"""The load test: users, their requests, figures and the release gate."""
