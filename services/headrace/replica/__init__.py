"""A replica: one model version, loaded, warmed up and served over the channel, by Ray Serve."""
