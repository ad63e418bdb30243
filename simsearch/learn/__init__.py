"""Learning from labels: a map of stored vectors that retrieves the user's own classes better."""
