"""Sources of pictures: folders, lists, object stores and the web."""
