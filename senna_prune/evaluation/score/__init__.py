"""Decision lines -> numbers: metrics, statistics and cost."""
