"""The admin port: the platform's metrics, processes and health, and the model repository."""
