"""Where pictures come from: folders, lists, object stores and the web."""
