"""From files to vectors in the catalog: plan, read, embed, record."""
