"""The findings of a study in sentences, for the page, the JSON and the terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from simsearch.study.study import StudyResult
from simsearch.text import clean_text, join_names, shorten_path, shorten_text

_MAX_NAME_LENGTH = 40


def name_images(paths: Sequence[str]) -> list[str]:
    """Name each image by its file name without the extension; equal names are extended by their folder."""
    stems = [Path(path).stem for path in paths]
    counts = Counter(stems)
    names = [
        clean_text(stem) if counts[stem] == 1 else shorten_path(path) for stem, path in zip(stems, paths, strict=True)
    ]
    return [shorten_text(name, _MAX_NAME_LENGTH) for name in names]


def summarize_study(study: StudyResult) -> tuple[str, ...]:
    """Summarize which images are most similar, how many views are recognized, and which backbone separates best."""
    return tuple(
        sentence
        for sentence in (_describe_most_alike(study), _describe_recognized_views(study), _describe_separation(study))
        if sentence
    )


def format_sensitivity(value: float) -> str:
    """Format a d' with one decimal."""
    return f"{value:.1f}" if math.isfinite(value) else "no scatter"


def _describe_most_alike(study: StudyResult) -> str:
    comparison = study.comparison
    names, pairs = name_images(comparison.paths), list(comparison.iterate_pairs())
    if not pairs:
        return f"{names[0]} is the only image: there is no pair to compare."
    closest: dict[tuple[int, int], list[str]] = {}
    for name in comparison.models:
        pair = max(pairs, key=lambda each: each.similarities[name])
        closest.setdefault((pair.first, pair.second), []).append(f"{pair.similarities[name]:.4f} by {name}")
    if len(pairs) == 1:
        return f"Similarity of {names[0]} and {names[1]}: {', '.join(closest[0, 1])}."
    found = [f"{names[a]} and {names[b]} (similarity {', '.join(values)})" for (a, b), values in closest.items()]
    return f"Most similar: {' or '.join(found)}."


def _describe_recognized_views(study: StudyResult) -> str:
    if not study.separations:
        return ""
    n_views = next(iter(study.separations.values())).own.size
    hits = {name: found.n_nearest for name, found in study.separations.items()}
    if set(hits.values()) == {n_views}:
        every = "" if len(hits) == 1 else " with every network"
        return f"All {n_views} augmented views are nearest to their own image{every}."
    counts = [f"{count} with {name}" for name, count in hits.items()]
    return f"Of {n_views} augmented views, {join_names(counts, 9)} are nearest to their own image."


def _describe_separation(study: StudyResult) -> str:
    if len(study.separations) < 2:
        return ""
    if complete := [name for name, found in study.separations.items() if found.is_complete]:
        who = f"Only {complete[0]} separates" if len(complete) == 1 else f"{join_names(complete, 9)} separate"
        rest = "" if len(complete) == 1 else "; so few images do not show which network is better"
        return (
            f"{who} the images completely: each view is more similar to its own image than any view to another{rest}."
        )
    (name, best), (next_name, following), *_ = study.separations.items()
    means = f"{best.own.mean():.2f} to their own image and {best.others.mean():.2f} to other images on average"
    if format_sensitivity(best.sensitivity) == format_sensitivity(following.sensitivity):
        return f"{name} and {next_name} separate views of an image from other images equally well."
    return (
        f"{name} separates views of an image from other images best: {means}, "
        f"d\N{PRIME} {format_sensitivity(best.sensitivity)} ({next_name}: {format_sensitivity(following.sensitivity)})."
    )
