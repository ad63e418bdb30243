"""The built-in network and its model card."""
