"""The report of a study of a few images: HTML, JSON and pictures."""
