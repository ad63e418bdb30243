"""Milvus in the place that FAISS files have: it is searched, and made anew from the catalog whenever that is needed."""
