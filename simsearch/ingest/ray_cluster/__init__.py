"""Past one machine: what is indexed by the workers of a Ray cluster."""
