"""What can be done to a ranking, or to the database, without training: pure functions on unit rows."""
