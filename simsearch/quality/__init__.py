"""Pictures that are worth a look: blurred, dark, bright, uniform, tiny, odd-shaped, outliers, mislabelled."""
