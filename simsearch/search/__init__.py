"""From examples to ranked hits: what is asked with, how answers are put in order, and what an answer looks like."""

from simsearch.search.ranking import Hit, Limits, View, nearest

__all__ = ["Hit", "Limits", "View", "nearest"]
