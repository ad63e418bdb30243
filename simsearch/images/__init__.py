"""Bytes to pixels: decoding, metadata, augmented views, thumbnails."""
