"""The built-in network of version 0.1, for collections that were made with it."""
