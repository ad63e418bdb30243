"""Files to vectors in the catalog: plan, read, decode, embed, record."""
