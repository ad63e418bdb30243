"""What the project claims about speed and memory, measured side by side: `python -m bench`."""
