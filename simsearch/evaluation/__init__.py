"""Which backbone retrieves best: labels, protocols, metrics, the benchmark."""
