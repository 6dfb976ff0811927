"""What the service says of itself: logs, metrics, health."""
