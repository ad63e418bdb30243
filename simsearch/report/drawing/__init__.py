"""Pictures drawn with Pillow: contact sheets, feature maps, comparisons."""
