"""JSON read and written in bounded time, however large the text is."""
