"""Verification of pairs of pictures: local features, a geometric model, and a comparison of the aligned pixels."""
