"""Vector indexes of a collection's models: exact and quantized FAISS indexes in files, or Milvus."""
