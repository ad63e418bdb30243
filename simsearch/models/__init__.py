"""Models: from uint8 pixels to unit vectors."""
