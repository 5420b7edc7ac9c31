"""This process and its descendants: their ends, threads, timers and folder."""
