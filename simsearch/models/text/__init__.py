"""Text queries: from texts to directions in the space of a model's vectors."""
