"""What a study found, in sentences: the same ones in its page and its JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from simsearch.study.study import StudyResult
from simsearch.text import clean_text, join_names, shorten_path, shorten_text

_MAX_NAME_LENGTH = 40


def name_images(paths: Sequence[str]) -> list[str]:
    """What to call each image: its file's name without the ending; where others have that too, with its folder's."""
    stems = [Path(path).stem for path in paths]
    n_so_named = Counter(stems)
    names = [
        clean_text(stem) if n_so_named[stem] == 1 else shorten_path(path)
        for stem, path in zip(stems, paths, strict=True)
    ]
    return [shorten_text(name, _MAX_NAME_LENGTH) for name in names]


def summarize_study(study: StudyResult) -> tuple[str, ...]:
    """Which images are most alike, whether views are known again, and which backbone separates most clearly."""
    return tuple(
        sentence
        for sentence in (_describe_most_alike(study), _describe_recognized_views(study), _describe_separation(study))
        if sentence
    )


def format_sensitivity(value: float) -> str:
    """A d' with one decimal."""
    return f"{value:.1f}" if math.isfinite(value) else "no scatter"


def _describe_most_alike(study: StudyResult) -> str:
    comparison = study.comparison
    names, pairs = name_images(comparison.paths), list(comparison.iterate_pairs())
    if not pairs:
        return f"{names[0]} is alone: there is no pair to compare."
    closest: dict[tuple[int, int], list[str]] = {}
    for name in comparison.models:
        pair = max(pairs, key=lambda each: each.similarities[name])
        closest.setdefault((pair.first, pair.second), []).append(f"{pair.similarities[name]:.4f} by {name}")
    if len(pairs) == 1:
        return f"The similarity of {names[0]} and {names[1]}: {', '.join(closest[0, 1])}."
    found = [f"{names[a]} and {names[b]} (similarity {', '.join(values)})" for (a, b), values in closest.items()]
    return f"Most alike are {' or '.join(found)}."


def _describe_recognized_views(study: StudyResult) -> str:
    if not study.separations:
        return ""
    n_views = next(iter(study.separations.values())).own.size
    hits = {name: found.n_nearest for name, found in study.separations.items()}
    if set(hits.values()) == {n_views}:
        who = "" if len(hits) == 1 else ", whichever network looks"
        return f"All {n_views} augmented views are nearest to their own picture{who}."
    counts = [f"{count} by {name}" for name, count in hits.items()]
    return f"Of {n_views} augmented views, {join_names(counts, 9)} are nearest to their own picture."


def _describe_separation(study: StudyResult) -> str:
    if len(study.separations) < 2:
        return ""
    if complete := [name for name, found in study.separations.items() if found.is_complete]:
        who = f"Only {complete[0]} separates" if len(complete) == 1 else f"{join_names(complete, 9)} separate"
        rest = "" if len(complete) == 1 else "; so few pictures do not tell which is better"
        return f"{who} them completely: every view is more similar to its own picture than any is to another{rest}."
    (name, best), (next_name, following), *_ = study.separations.items()
    means = f"{best.own.mean():.2f} to their own picture and {best.others.mean():.2f} to the others, on average"
    if format_sensitivity(best.sensitivity) == format_sensitivity(following.sensitivity):
        return f"{name} and {next_name} tell views of a picture from other pictures equally clearly."
    return (
        f"{name} tells views of a picture from other pictures most clearly here: {means}, "
        f"d\N{PRIME} {format_sensitivity(best.sensitivity)} ({next_name}: {format_sensitivity(following.sensitivity)})."
    )
