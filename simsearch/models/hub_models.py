"""Models of a hub: the rows of `published.py`, and any other repository with an ONNX export."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from simsearch.errors import ModelError, WeightsMismatch
from simsearch.files import replace_file, translate_write_errors
from simsearch.images.resize import Resize
from simsearch.models import hub
from simsearch.models.custom_model import build_onnx_model, hash_model, read_model_file
from simsearch.models.model import Model, Pooling
from simsearch.models.onnx_folder import detect_onnx_folder, list_model_paths
from simsearch.models.published import PUBLISHED, HubFile, PublishedBackbone
from simsearch.models.text_tower import TextTower, find_local_text_tower
from simsearch.models.weights import RANDOM_WEIGHTS, WeightsOptions

_LICENSE_NAME = "LICENSE.txt"


def find_repository(row: PublishedBackbone) -> hub.Repository:
    """The repository of a row, at the revision that the row pins."""
    return hub.Repository(row.repository, row.revision, row.name)


def build_published_model(
    row: PublishedBackbone,
    options: WeightsOptions,
    *,
    layer: str | None,
    pooling: Pooling | None,
    resize: Resize | None,
) -> Model:
    """Build the model of a row: find its files, or download them.

    Raises `ModelError` for a restricted license that was not accepted, `WeightsMissing`, or another `ModelError`.
    """
    graph = _find_graph(row, options)
    layer = layer or row.output
    model = build_onnx_model(graph, row.name, row.settings, layer=layer, pooling=pooling, resize=resize)
    return replace(model, source=row.name)


def build_hub_model(
    name: str, options: WeightsOptions, *, layer: str | None, pooling: Pooling | None, resize: Resize | None
) -> Model:
    """Build the model of `hf:owner/repository[@revision]`, with the settings of the repository.

    Raises `WeightsMissing` or another `ModelError`.
    """
    if options.path is not None:
        raise ModelError(f"--weights does not apply to {name}", "give the file or its folder with --backbone")
    repository, folder = hub.fetch_repository(hub.parse_repository(name), offline=options.offline)
    graph = folder / detect_onnx_folder(list_model_paths(folder), name).image
    model = read_model_file(str(graph), layer=layer, pooling=pooling, resize=resize)
    return replace(model, source=str(repository))


def relocate_hub_model(model: Model, options: WeightsOptions) -> Model:
    """Find the file of a stored model of a hub again, or download it.

    Raises `WeightsMismatch` when the file that is found is another one, `WeightsMissing` when none is found.
    """
    source = str(model.source)
    if row := PUBLISHED.get(source):
        graph = _find_graph(row, options)
    else:
        _, folder = hub.fetch_repository(hub.parse_repository(source), offline=options.offline)
        graph = folder / detect_onnx_folder(list_model_paths(folder), source).image
    if hash_model(str(graph)) != model.weights:
        raise WeightsMismatch(
            f"the weights in {graph} differ from those that the collection was indexed with",
            f"restore them, or index again with --backbone {source}",
        )
    return replace(model, file=str(graph))


def locate_hub_text_tower(model: Model, options: WeightsOptions) -> TextTower | None:
    """Find or download the text encoder of a model of a hub; None where it has none. Raises `WeightsMissing`."""
    source = str(model.source)
    if row := PUBLISHED.get(source):
        return locate_published_text_tower(row, options)
    repository, folder = hub.fetch_repository(hub.parse_repository(source), offline=options.offline)
    graph = folder / detect_onnx_folder(list_model_paths(folder), source).image
    if (found := find_local_text_tower(str(graph))) is None and not hub.is_offline(options.offline):
        hub.fetch_text_files(repository, folder)
        found = find_local_text_tower(str(graph))
    return found


def locate_published_text_tower(row: PublishedBackbone, options: WeightsOptions) -> TextTower | None:
    """Find or download the text encoder of a row; None where it has none. Raises `WeightsMissing`."""
    if row.text is None:
        return None
    folder = _fetch(row, [row.text.graph, row.text.tokenizer], options)
    return TextTower(
        graph=str(folder / row.text.graph.path),
        tokenizer=str(folder / row.text.tokenizer.path),
        context_length=row.text.context_length,
        pad_token=row.text.pad_token,
        lowers_case=row.text.lowers_case,
    )


def _find_graph(row: PublishedBackbone, options: WeightsOptions) -> Path:
    if options.path == RANDOM_WEIGHTS:
        raise ModelError(f"--weights random does not apply to {row.name}", "remove --weights")
    if options.path is None:
        return _fetch(row, row.files, options) / row.files[0].path
    given = Path(os.path.abspath(options.path))
    if given.is_dir():
        usual = given / row.files[0].path
        return usual if usual.is_file() else given / detect_onnx_folder(list_model_paths(given), str(given)).image
    if not given.is_file():
        raise ModelError(f"no weights for {row.name}: {options.path} does not exist", "check the path")
    return given


def _fetch(row: PublishedBackbone, files: tuple[HubFile, ...] | list[HubFile], options: WeightsOptions) -> Path:
    """Find the files of a row, or download them and put its license beside them."""
    repository = find_repository(row)
    if folder := hub.find_folder(repository, files):
        return folder
    if row.is_restricted and not options.accept_license and not hub.is_offline(options.offline):
        raise ModelError(
            f"{row.name} is under the {row.license}, which limits its use ({row.license_url})",
            f"read it; to accept it, run: simsearch backbones --check {row.name} --accept-license",
        )
    license_files = [HubFile(row.license_file)] if row.license_file else []
    folder = hub.fetch_files(repository, [*files, *license_files], offline=options.offline)
    notice = f"{row.name}: {row.license}\n{row.license_url}\nhf:{row.repository}@{row.revision}\n{row.paper}\n"
    file = folder / _LICENSE_NAME
    with translate_write_errors(file), replace_file(file) as temporary:  # also beside the files of an earlier download
        temporary.write_bytes(notice.encode())
    return folder
