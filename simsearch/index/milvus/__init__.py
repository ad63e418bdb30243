"""Milvus in place of FAISS files: a cache of the vectors that can be rebuilt from the catalog at any time."""
