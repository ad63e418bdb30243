"""Export and import: vectors, image data and annotations in the formats of other tools."""
