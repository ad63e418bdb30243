"""Vectors and what is known of them, to and from the formats of other tools. The only imports of pyarrow."""
