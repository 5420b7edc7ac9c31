"""A replica: one model version, loaded, proven and served over the channel, by Ray Serve."""
