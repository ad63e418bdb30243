"""Looking at a few pictures closely: what networks take them for, what their layers see, how alike they are."""
