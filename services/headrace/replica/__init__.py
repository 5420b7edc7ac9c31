"""A replica: one model version, loaded, proven and served over the channel; and its Ray Serve deployment."""
