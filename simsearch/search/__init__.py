"""Search by example: from example pictures to ranked hits."""

from simsearch.search.ranking import RankingLimits, rank_hits
from simsearch.search.results import Answer, Hit, View

__all__ = ["Answer", "Hit", "RankingLimits", "View", "rank_hits"]
