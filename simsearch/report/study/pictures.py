"""The picture files of a study: pairs side by side, feature maps, augmented views."""

from __future__ import annotations

from pathlib import Path

from simsearch.report.drawing.comparison import draw_comparison
from simsearch.report.drawing.feature_maps import draw_feature_maps
from simsearch.study.study import StudyPictures, StudyResult
from simsearch.study.views import shorten_stem, write_views

_VIEW_PX = 640
"""The longer side of views in a report; `simsearch augment` writes them in full size."""


def draw_study_pictures(study: StudyResult, folder: Path, max_pixels: int | None = None) -> StudyPictures:
    """Draw cos_sim/<model>/<a>_<b>.jpg, features/<model>/<first image>.png and augmented/<image>_view<number>.

    Raises `ImageError` when an image cannot be read any more, `SimsearchError` when a file cannot be written.
    """
    drawn = draw_comparison(study.comparison, folder)
    pairs: dict[tuple[int, int], dict[str, str]] = {}
    for name, files in drawn.pairs.items():
        for pair, file in files.items():
            pairs.setdefault(pair, {})[name] = file.relative_to(folder).as_posix()
    features = {}
    for name, found in study.features.items():
        features[name] = f"features/{name}/{shorten_stem(found.path)}.png"
        draw_feature_maps(found, folder / features[name])
    heat_maps = {name: file.relative_to(folder).as_posix() for name, file in drawn.heat_maps.items()}
    return StudyPictures(pairs, heat_maps, features, _draw_views(study, folder, max_pixels))


def _draw_views(study: StudyResult, folder: Path, max_pixels: int | None) -> tuple[tuple[str, ...], ...]:
    if study.augmented is None:
        return ()
    paths, augmentation = study.comparison.paths, study.augmented.augmentation
    written = write_views(paths, str(folder / "augmented"), augmentation, max_pixels, longest_px=_VIEW_PX)
    files = [Path(view.file).relative_to(folder).as_posix() for view in written]
    n = augmentation.n_views
    return tuple(tuple(files[start : start + n]) for start in range(0, len(files), n))
