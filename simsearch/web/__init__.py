"""A page to search with pictures, and an API: the calls of the command line, over HTTP."""
