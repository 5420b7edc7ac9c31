"""Events, the metrics that listeners make of them, and logs."""
