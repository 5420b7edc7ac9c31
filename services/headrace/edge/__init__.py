"""HTTP as it arrives and leaves: connections, framing, limits, routes, and errors to answers."""
