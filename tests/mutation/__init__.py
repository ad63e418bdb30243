"""Seeded faults: does the suite notice them? `python -m tests.mutation` puts each into a copy of the product."""
