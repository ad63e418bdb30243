"""Distributed ingest: the workers of a Ray cluster read, decode and embed."""
