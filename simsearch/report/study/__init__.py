"""The report of a study of a few pictures: HTML and JSON."""
