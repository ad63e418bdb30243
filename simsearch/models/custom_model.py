"""The user's own model: a `.keras` file, a SavedModel folder or an `.onnx` file, with a JSON file beside it.

The JSON file has the name of the model (`flowers.onnx` and `flowers.json`) and holds the settings of its input:

    {"side": 224, "resize": "squash", "scaling": "torch", "layer": null, "pooling": "avg"}

`scaling` is a name from `SCALINGS` or `{"channels": "bgr", "scale": [..], "offset": [..]}`, applied to values from 0 to
255. `side` and `scaling` are required; the other fields have the defaults above.
"""

from __future__ import annotations

import json
import os
import re
from math import isfinite
from pathlib import Path
from typing import Any

import xxhash

from simsearch.errors import ModelError
from simsearch.images.decode import Resize
from simsearch.models.model import POOLINGS, RESIZES, SCALINGS, Model, Pooling, Runtime, Scaling
from simsearch.models.trust import PROGRAM_RUNTIMES, trust_file
from simsearch.models.weights import hash_file

_EXAMPLE = '{"side": 224, "scaling": "torch"}'
_SETTINGS_FIELDS = frozenset({"side", "resize", "scaling", "layer", "pooling"})
_SCALING_FIELDS = frozenset({"channels", "scale", "offset"})


def is_model_file(name: str) -> bool:
    """Whether `name` is the path of a model file and not the name of a backbone."""
    return os.path.exists(name) or os.sep in name or name.endswith((".keras", ".onnx"))


def read_model_file(path: str, *, layer: str | None, pooling: Pooling | None, resize: Resize | None) -> Model:
    """Read the settings of the model at `path`. Arguments that are not None override the JSON file.

    Raises `ModelError` when the model or its JSON file is missing or invalid.
    """
    if not os.path.exists(path):
        raise ModelError(f"no model at {path}", "check the path")
    if (runtime := _find_runtime(path)) is None:
        raise ModelError(
            f"{path} has no supported model format", "give a .keras file, a SavedModel folder or an .onnx file"
        )
    settings = _read_settings(Path(path).with_suffix(".json"))
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
    if path.endswith(".onnx"):
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


def hash_model(path: str) -> str:
    """The digest of a model file, or of all files in a model folder in the order of their names."""
    if os.path.isfile(path):
        return hash_file(path)
    hasher = xxhash.xxh3_128()
    for file in sorted(p for p in Path(path).rglob("*") if p.is_file()):
        hasher.update(f"{file.relative_to(path).as_posix()}\0{hash_file(str(file))}\0".encode())
    return hasher.hexdigest()


def _read_settings(file: Path) -> dict[str, Any]:
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"the settings file {file} is missing",
            f"create it with the settings of the model's input, such as {_EXAMPLE}",
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read ({error})", f"write a JSON object such as {_EXAMPLE}") from error
    if not isinstance(settings, dict):
        raise ModelError(f"{file} does not contain a JSON object", f"write one such as {_EXAMPLE}")
    if unknown := settings.keys() - _SETTINGS_FIELDS:
        raise _make_settings_error(
            file, f"unknown fields {sorted(unknown)}", f"the known fields are {sorted(_SETTINGS_FIELDS)}"
        )
    side = settings.get("side")
    if not isinstance(side, int) or isinstance(side, bool) or side <= 0:
        raise _make_settings_error(
            file, f"side is {side!r}", "give the side of the input in pixels, a whole number above 0"
        )
    _check_choice(file, settings, "resize", RESIZES)
    _check_choice(file, settings, "pooling", POOLINGS)
    if not isinstance(settings.get("layer"), str | None):
        raise _make_settings_error(file, f"layer is {settings['layer']!r}", "give the name of a layer, or null")
    return settings | {"scaling": _parse_scaling(file, settings.get("scaling"))}


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
