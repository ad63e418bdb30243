"""A whole collection at a glance: a map in two dimensions and clusters."""
