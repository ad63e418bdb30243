"""The network that ships with the package, and its card."""
