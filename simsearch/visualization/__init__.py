"""Visualization of a whole collection: clusters, and a two-dimensional layout."""
