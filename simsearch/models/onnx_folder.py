"""Find the parts of an exported model in a folder: image encoder, text encoder, tokenizer, settings.

The layouts are those of `optimum-cli export onnx` (`model.onnx`), transformers.js (`onnx/vision_model.onnx` and
`onnx/text_model.onnx`), immich (`visual/model.onnx` and `textual/model.onnx`) and OpenCLIP's exporters (`visual.onnx`
and `textual.onnx`). They are found in a list of paths, which may be of a folder or of a repository.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from simsearch.errors import ModelError

_IMAGE_STEMS = ("vision_model", "visual", "image_encoder", "image_model", "encoder_image", "clip_image")
_TEXT_STEMS = ("text_model", "textual", "text_encoder", "encoder_text", "clip_text")
_COMBINED_STEMS = ("model",)
_IMAGE_FOLDERS, _TEXT_FOLDERS = ("visual", "vision", "image"), ("textual", "text")
_VARIANT = re.compile(r"_(fp16|fp32|f16|int8|uint8|q4|q4f16|q8|bnb4|quantized|quint8|qint8.*|O[1-4])$")
"""Suffixes of files with the same network in another number format."""

_SETTINGS = ("preprocessor_config.json", "processor_config.json", "preprocess_cfg.json", "open_clip_config.json")
_MAX_DEPTH = 3


@dataclass(frozen=True, slots=True)
class OnnxFolder:
    """The parts of a model, as paths relative to its folder. None where the folder has no such part.

    `image` is the graph to embed pictures with. `text` is a graph of its own; it is None where `image` holds both
    towers. `settings` are the files with the pre-processing, the nearest to `image` first.
    """

    image: str
    text: str | None
    tokenizer: str | None
    settings: tuple[str, ...]


def list_model_paths(folder: Path) -> list[str]:
    """The files in a model folder that may be parts of a model, as relative POSIX paths, in the order of names."""
    found = []
    for place, folders, names in os.walk(folder):
        inner = Path(place).relative_to(folder)
        folders[:] = [name for name in folders if name[0] != "." and len(inner.parts) < _MAX_DEPTH - 1]
        found += [(inner / name).as_posix() for name in names if name[0] != "."]
    return sorted(found)


def detect_onnx_folder(paths: Iterable[str], name: str) -> OnnxFolder:
    """Find the parts of the model `name` in a list of relative paths.

    A file in float32 goes before another number format. Raises `ModelError` where no graph, or more than one that may
    be meant, is found.
    """
    every = sorted(paths)
    graphs = [path for path in every if path.endswith(".onnx")]
    image = _pick_graph(graphs, _IMAGE_STEMS, _IMAGE_FOLDERS) or _pick_other_graph(graphs, name)
    text = _pick_graph(graphs, _TEXT_STEMS, _TEXT_FOLDERS)
    return OnnxFolder(
        image=image,
        text=text,
        tokenizer=_find_nearest(every, ("tokenizer.json",), text or image),
        settings=find_settings(every, image),
    )


def find_model_root(graph: Path) -> Path:
    """The folder of the model that a graph belongs to: its own, or the one above `onnx`, `visual` and the like."""
    places = [graph.parent, graph.parent.parent]
    named = [place for place in places if place.name in ("onnx", *_IMAGE_FOLDERS, *_TEXT_FOLDERS)]
    return named[-1].parent if named else graph.parent


def list_settings_files(graph: Path, root: Path) -> list[Path]:
    """The existing files of pre-processing settings that apply to a graph below `root`, the nearest first."""
    places = [place for place in graph.parents if place == root or root in place.parents]
    return [place / name for place in places for name in _SETTINGS if (place / name).is_file()]


def find_text_files(image: Path, root: Path) -> tuple[Path | None, Path | None]:
    """The text encoder and the `tokenizer.json` that belong to the image encoder of the model in `root`.

    Only the places where exporters put them are looked at, because `root` may be any folder of the user.
    """
    folders = list(dict.fromkeys([image.parent, root / "onnx", *(root / name for name in _TEXT_FOLDERS), root]))
    graphs = [path for folder in folders for path in sorted(folder.glob("*.onnx")) if is_text_graph(path.as_posix())]
    text = min(graphs, key=lambda path: has_variant_suffix(path.stem), default=None)
    places = [text.parent, *folders] if text else folders
    tokenizers = [folder / "tokenizer.json" for folder in (*places, root / "tokenizer")]
    return text, next((file for file in tokenizers if file.is_file()), None)


def name_model(graph: Path, root: Path) -> str:
    """Name a model after its graph, or after its repository or folder where every export has that file name.

    The number format of the graph stays in the name.
    """
    stem = strip_variant(graph.stem)
    if stem not in (*_IMAGE_STEMS, *_TEXT_STEMS, *_COMBINED_STEMS):
        return graph.stem
    name = root.name
    above, top = root.parent.name, root.parent.parent.name
    if above == "snapshots" and top.startswith("models--"):  # Hugging Face: models--owner--name/snapshots/commit
        name = top.rpartition("--")[2]
    elif top == "weights" and "--" in above:  # our own cache: weights/owner--name/commit
        name = above.rpartition("--")[2]
    inner = [part for part in graph.parent.relative_to(root).parts if part not in ("onnx", *_IMAGE_FOLDERS)]
    return "_".join([name, *inner]) + graph.stem.removeprefix(stem)


def find_settings(paths: Iterable[str], graph: str) -> tuple[str, ...]:
    """The files of pre-processing settings that apply to a graph, the nearest first."""
    found = [path for path in paths if PurePosixPath(path).name in _SETTINGS and _applies_to(path, graph)]
    return tuple(sorted(found, key=lambda path: (-path.count("/"), _SETTINGS.index(PurePosixPath(path).name))))


def has_variant_suffix(stem: str) -> bool:
    """Whether the name of a graph says that it is another number format of the same network."""
    return _VARIANT.search(stem) is not None


def strip_variant(stem: str) -> str:
    """The name of a graph without the suffix of its number format."""
    return _VARIANT.sub("", stem)


def is_text_graph(path: str) -> bool:
    """Whether the name of a graph says that it reads texts."""
    parts = PurePosixPath(path)
    return strip_variant(parts.stem) in _TEXT_STEMS or parts.parent.name in _TEXT_FOLDERS


def _pick_graph(graphs: Sequence[str], stems: Sequence[str], folders: Sequence[str]) -> str | None:
    """The graph whose name, or whose folder, is one of those; the plain float32 file first."""
    matching = []
    for path in graphs:
        parts = PurePosixPath(path)
        stem = strip_variant(parts.stem)
        if stem in stems or (parts.parent.name in folders and stem in (*_COMBINED_STEMS, *stems)):
            matching.append(path)
    return min(matching, key=_rank_graph, default=None)


def _pick_other_graph(graphs: Sequence[str], name: str) -> str:
    """The only graph of a folder without an image encoder of its own: a single-tower model, or both towers."""
    candidates = [path for path in graphs if not is_text_graph(path)]
    plain = [path for path in candidates if strip_variant(PurePosixPath(path).stem) in _COMBINED_STEMS]
    if plain or len({strip_variant(PurePosixPath(path).stem) for path in candidates}) == 1:
        return min(plain or candidates, key=_rank_graph)
    if not candidates:
        raise ModelError(f"{name} has no ONNX file of an image encoder", "export one, or name another folder")
    shown = ", ".join(candidates[:4])
    raise ModelError(f"{name} has several ONNX files ({shown})", "give the path of the image encoder")


def _rank_graph(path: str) -> tuple[bool, int, int, str]:
    return has_variant_suffix(PurePosixPath(path).stem), path.count("/"), len(path), path


def _find_nearest(paths: Sequence[str], names: Sequence[str], graph: str) -> str | None:
    found = [path for path in paths if PurePosixPath(path).name in names and _applies_to(path, graph)]
    return max(found, key=lambda path: path.count("/"), default=None)


def _applies_to(path: str, graph: str) -> bool:
    """Whether a file lies in the folder of the graph, in one above it, or in the only other place exporters use."""
    folder = PurePosixPath(path).parent
    return folder in PurePosixPath(graph).parents or folder.name == "tokenizer"
