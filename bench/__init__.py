"""Measurements of speed, memory and quality that the project publishes: `python -m bench`."""
