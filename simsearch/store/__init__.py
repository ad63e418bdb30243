"""What is kept: the catalog (the truth) and the FAISS files (caches of it)."""
