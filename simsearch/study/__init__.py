"""Analysis of a few images under several networks: classes, feature maps, pairwise similarity, augmented views."""
