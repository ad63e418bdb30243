"""Re-ranking without training: PCA and whitening, database augmentation, query expansion, k-reciprocal encoding."""
