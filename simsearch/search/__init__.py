"""From examples to ranked hits: what is asked with, how answers are put in order, and what an answer looks like."""

from simsearch.search.ranking import Hit, RankingLimits, View, rank_hits

__all__ = ["Hit", "RankingLimits", "View", "rank_hits"]
