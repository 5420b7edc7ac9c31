"""The admin port: the platform's metrics, its processes for Prometheus, and its own health."""
