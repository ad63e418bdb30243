"""The user's own model: a `.keras` file, a SavedModel folder, an `.onnx` file, or the folder of an ONNX export.

A JSON file beside it, with the name of the model (`flowers.onnx` and `flowers.json`), holds the settings of its input:

    {"side": 224, "resize": "squash", "scaling": "torch", "layer": null, "pooling": "avg"}

`scaling` is a name from `SCALINGS` or `{"channels": "bgr", "scale": [..], "offset": [..]}`, applied to values from 0 to
255. An ONNX file may also have `interpolation` (a filter of Pillow), `shortest` (the length of the shorter side before
`crop` takes the middle) and `name`. `side` and `scaling` are required, unless an ONNX export has settings files of
transformers or OpenCLIP; fields of our JSON file go before those.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import xxhash

from simsearch.errors import ModelError
from simsearch.images.resize import Resize
from simsearch.models.image_processor import ImageSettings, read_image_settings
from simsearch.models.model import (
    INTERPOLATIONS,
    POOLINGS,
    RESIZES,
    SCALINGS,
    Model,
    Pooling,
    Runtime,
    Scaling,
    Tokens,
)
from simsearch.models.onnx_file import OnnxOutline, OnnxTensor, read_onnx_outline
from simsearch.models.onnx_folder import (
    detect_onnx_folder,
    find_model_root,
    list_model_paths,
    list_settings_files,
    name_model,
)
from simsearch.models.onnx_graph import choose_output, find_picture_input
from simsearch.models.trust import PROGRAM_RUNTIMES, trust_file
from simsearch.models.weights import hash_file

_EXAMPLE = '{"side": 224, "scaling": "torch"}'
_SETTINGS_FIELDS = frozenset({"side", "resize", "scaling", "layer", "pooling"})
_ONNX_FIELDS = _SETTINGS_FIELDS | {"interpolation", "shortest", "name"}
_SCALING_FIELDS = frozenset({"channels", "scale", "offset"})


def is_model_file(name: str) -> bool:
    """Whether `name` is the path of a model file and not the name of a backbone."""
    return os.path.exists(name) or os.sep in name or name.endswith((".keras", ".onnx"))


def read_model_file(path: str, *, layer: str | None, pooling: Pooling | None, resize: Resize | None) -> Model:
    """Read the settings of the model at `path`. Arguments that are not None override the JSON file.

    Raises `ModelError` when the model or its settings are missing or invalid.
    """
    if not os.path.exists(path):
        raise ModelError(f"no model at {path}", "check the path")
    if (runtime := _find_runtime(path)) is None:
        raise ModelError(
            f"{path} has no supported model format",
            "give a .keras file, a SavedModel folder, an .onnx file or the folder of an ONNX export",
        )
    if runtime == "onnx":
        return _read_onnx_model(path, layer=layer, pooling=pooling, resize=resize)
    file = Path(path).with_suffix(".json")
    settings = _read_settings(file, _SETTINGS_FIELDS)
    _check_is_complete(file, settings)
    return Model(
        backbone=re.sub(r"[^A-Za-z0-9_.]+", "_", Path(path).stem) or "model",
        runtime=runtime,
        weights=hash_model(path),
        file=os.path.abspath(path),
        side_px=settings["side"],
        resize=resize or settings.get("resize", "squash"),
        scaling=settings["scaling"],
        layer=layer or settings.get("layer"),
        pooling=pooling or settings.get("pooling", "avg"),
    )


def _find_runtime(path: str) -> Runtime | None:
    if os.path.isfile(os.path.join(path, "saved_model.pb")):
        return "saved-model"
    if path.endswith(".onnx") or (
        os.path.isdir(path) and any(x.endswith(".onnx") for x in list_model_paths(Path(path)))
    ):
        return "onnx"
    return "keras-file" if path.endswith(".keras") else None


def trust_named_file(name: str) -> None:
    """Trust a program that the user named by its path on the command line.

    Other values are left alone: a word such as `flowers` is the name of a backbone, even if a folder has that name.
    Raises `ModelError` when the file cannot be read.
    """
    is_path = os.sep in name or name.endswith(".keras")
    if is_path and os.path.exists(name) and _find_runtime(name) in PROGRAM_RUNTIMES:
        trust_file(os.path.abspath(name))


def _read_onnx_model(path: str, *, layer: str | None, pooling: Pooling | None, resize: Resize | None) -> Model:
    graph = Path(os.path.abspath(path))
    root = find_model_root(graph)
    if graph.is_dir():
        root = graph
        graph = root / detect_onnx_folder(list_model_paths(root), path).image
    own_file = graph.with_suffix(".json")
    own = _read_settings(own_file, _ONNX_FIELDS) if own_file.exists() else {}
    outline = read_onnx_outline(str(graph))
    find_picture_input(outline, graph)
    if layer is None and own.get("layer") is None:
        choose_output(outline, graph)
    settings = next((read_image_settings(file) for file in list_settings_files(graph, root)), None)
    if settings is None:
        _check_is_complete(own_file, own)
    name = own.get("name") or name_model(graph, root)
    return build_onnx_model(graph, name, settings, own, layer=layer, pooling=pooling, resize=resize)


def build_onnx_model(
    graph: Path,
    name: str,
    settings: ImageSettings | None,
    own: Mapping[str, Any] | None = None,
    *,
    layer: str | None,
    pooling: Pooling | None,
    resize: Resize | None,
) -> Model:
    """Build the model of an ONNX file from its published settings and the fields of our JSON file, which go first.

    Arguments that are not None override both. Raises `ModelError`.
    """
    own = {**(own or {}), **({} if resize is None else {"resize": resize})}
    outline = read_onnx_outline(str(graph))
    picture = find_picture_input(outline, graph)
    layer = layer or own.get("layer")
    output = choose_output(outline, graph) if layer is None else None
    chosen_pooling = pooling or own.get("pooling") or _choose_pooling(output)
    return Model(
        backbone=re.sub(r"[^A-Za-z0-9_.]+", "_", name) or "model",
        runtime="onnx",
        weights=hash_model(str(graph)),
        file=str(graph),
        layer=layer or (None if output == outline.outputs[0] or output is None else output.name),
        pooling=chosen_pooling,
        tokens=_choose_tokens(outline, layer, output, chosen_pooling),
        **_merge_settings(graph.with_suffix(".json"), own, settings, picture),
    )


def _choose_pooling(output: OnnxTensor | None) -> Pooling:
    """The class token of a transformer's tokens, else the mean."""
    is_tokens = output is not None and output.name == "last_hidden_state" and output.rank in (None, 3)
    return "cls" if is_tokens else "avg"


def _choose_tokens(outline: OnnxOutline, layer: str | None, output: OnnxTensor | None, pooling: Pooling) -> Tokens:
    """Leave class and register tokens out of the pooling of an output that is tokens."""
    by_name = {each.name: each for each in outline.outputs}
    chosen = output or by_name.get(layer or "")
    is_tokens = chosen.rank == 3 if chosen and chosen.rank else "last_hidden_state" in by_name
    return "patches" if is_tokens and pooling != "cls" else "all"


def _merge_settings(
    file: Path, own: Mapping[str, Any], published: ImageSettings | None, picture: OnnxTensor
) -> dict[str, Any]:
    """The fields of `Model` for the pre-processing: those of our JSON file, else those of the published settings."""
    fields: dict[str, Any] = {"interpolation": "bilinear", "shortest_px": None, "resize": "squash"}
    if published is not None:
        fields = {name: getattr(published, name) for name in ImageSettings.__dataclass_fields__}
        if picture.element_type == "uint8":  # such a graph scales the pixels itself
            fields["scaling"] = SCALINGS["none"]
        side = own.get("side", published.side_px)
        if published.shortest_px is not None:  # keep the ratio of the crop
            fields["shortest_px"] = round(published.shortest_px * side / published.side_px)
    names = {"side": "side_px", "shortest": "shortest_px"}
    fields |= {
        names.get(name, name): own[name]
        for name in ("side", "resize", "scaling", "interpolation", "shortest")
        if name in own
    }
    if fields["resize"] != "crop":
        fields["shortest_px"] = None
    if fields["shortest_px"] is not None and fields["shortest_px"] < fields["side_px"]:
        raise _make_settings_error(file, f"shortest is {fields['shortest_px']}", "give at least the side of the input")
    if picture.element_type == "uint8" and fields["scaling"] != SCALINGS["none"]:
        raise _make_settings_error(file, "the input of the model is uint8", 'write "scaling": "none"')
    return fields


def hash_model(path: str) -> str:
    """The digest of a model file with its external data files, or of all files in a model folder.

    Raises `ModelError`.
    """
    hasher = xxhash.xxh3_128()
    if os.path.isfile(path):
        external = read_onnx_outline(path).external_files if path.endswith(".onnx") else ()
        if not external:
            return hash_file(path)
        for name in (os.path.basename(path), *external):
            hasher.update(f"{name}\0{hash_file(os.path.join(os.path.dirname(path), name))}\0".encode())
        return hasher.hexdigest()
    for file in sorted(p for p in Path(path).rglob("*") if p.is_file()):
        hasher.update(f"{file.relative_to(path).as_posix()}\0{hash_file(str(file))}\0".encode())
    return hasher.hexdigest()


def _read_settings(file: Path, known: frozenset[str]) -> dict[str, Any]:
    """Read and check the fields that our JSON file has."""
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise _make_missing_settings_error(file) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read ({error})", f"write a JSON object such as {_EXAMPLE}") from error
    if not isinstance(settings, dict):
        raise ModelError(f"{file} does not contain a JSON object", f"write one such as {_EXAMPLE}")
    if unknown := settings.keys() - known:
        raise _make_settings_error(file, f"unknown fields {sorted(unknown)}", f"the known fields are {sorted(known)}")
    for field in ("side", "shortest"):
        length = settings.get(field, 1)
        if not isinstance(length, int) or isinstance(length, bool) or length <= 0:
            what = "side of the input" if field == "side" else "shorter side before the crop"
            raise _make_settings_error(
                file, f"{field} is {length!r}", f"give the {what} in pixels, a whole number above 0"
            )
    _check_choice(file, settings, "resize", RESIZES)
    _check_choice(file, settings, "pooling", POOLINGS)
    _check_choice(file, settings, "interpolation", INTERPOLATIONS)
    for field in ("layer", "name"):
        if not isinstance(settings.get(field), str | None):
            advice = "give the name of a layer, or null" if field == "layer" else "give a text, or null"
            raise _make_settings_error(file, f"{field} is {settings[field]!r}", advice)
    return settings | ({"scaling": _parse_scaling(file, settings["scaling"])} if "scaling" in settings else {})


def _check_is_complete(file: Path, settings: Mapping[str, Any]) -> None:
    """Check that our JSON file has the fields without which no picture can be embedded."""
    if not file.exists():
        raise _make_missing_settings_error(file)
    if "side" not in settings:
        raise _make_settings_error(file, "side is None", "give the side of the input in pixels, a whole number above 0")
    if "scaling" not in settings:
        _parse_scaling(file, None)  # raises


def _make_missing_settings_error(file: Path) -> ModelError:
    return ModelError(
        f"the settings file {file} is missing",
        f"create it with the settings of the model's input, such as {_EXAMPLE}",
    )


def _check_choice(file: Path, settings: dict[str, Any], field: str, allowed: tuple[str, ...]) -> None:
    if field in settings and settings[field] not in allowed:
        raise _make_settings_error(file, f"{field} is {settings[field]!r}", f"choose one of {', '.join(allowed)}")


def _parse_scaling(file: Path, value: object) -> Scaling:
    if isinstance(value, str) and value in SCALINGS:
        return SCALINGS[value]
    if isinstance(value, dict) and value.keys() <= _SCALING_FIELDS and value.get("channels", "rgb") in ("rgb", "bgr"):
        scale, offset = value.get("scale", []), value.get("offset", [0, 0, 0])
        if _is_triple(scale) and all(scale) and _is_triple(offset):
            return Scaling(value.get("channels", "rgb"), tuple(map(float, scale)), tuple(map(float, offset)))  # type: ignore[arg-type]  # length checked
    example = '{"channels": "rgb", "scale": [0.0039, 0.0039, 0.0039], "offset": [0, 0, 0]}'
    raise _make_settings_error(
        file, f"scaling is {value!r}", f"choose one of {', '.join(SCALINGS)}, or write {example}"
    )


def _is_triple(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(x) in (int, float) and isfinite(x) for x in value)


def _make_settings_error(file: Path, problem: str, advice: str) -> ModelError:
    return ModelError(f"{file}: {problem}", advice)
