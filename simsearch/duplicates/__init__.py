"""Search for duplicates in a collection: exact copies, edited copies, and similar pictures."""
