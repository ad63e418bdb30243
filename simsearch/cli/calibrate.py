"""`simsearch calibrate`."""

from __future__ import annotations

from typing import Annotated

import typer

from simsearch.cli.options import (
    BackboneOption,
    CollectionOption,
    JsonOption,
    MovedWeightsOption,
    OfflineOption,
    find_collection,
)
from simsearch.cli.output import print_json, print_line
from simsearch.text import name_counts

_SHOWN_PROBABILITIES = (0.1, 0.5, 0.9)


def calibrate(
    in_: CollectionOption = None,
    backbone: BackboneOption = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="WHAT",
            help="What makes a hit right: class (the folder of the file), the name of a column, or copies (augmented "
            "copies of the same picture). Default: class where most images share a folder with others, else copies.",
        ),
    ] = None,
    sample: Annotated[int, typer.Option("--sample", metavar="N", help="Number of queries.")] = 500,
    seed: Annotated[int, typer.Option("--seed", help="Random seed of the sample.")] = 0,
    weights: MovedWeightsOption = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure which probability a cosine of a model stands for in a collection, for `query --min-probability`.

    Sample queries are answered from the whole collection, and from the collection without the images that are right.
    The share of right hits by cosine is stored with the model, with the number of queries. Half of the classes are held
    out to check it.

    Example:  simsearch calibrate --in indexes/photos --by class
    """
    from simsearch.collection import Collection
    from simsearch.models.weights import WeightsOptions
    from simsearch.search.calibrate import CalibrationOptions

    options = CalibrationOptions(by, seed, sample)
    with Collection.open(find_collection(in_)) as collection:
        stored = collection.model(backbone)
        found = collection.calibrate(options, backbone=backbone, weights=WeightsOptions(weights, offline))
    if as_json:
        print_json({"backbone": stored.model.backbone, "model": stored.fingerprint, **name_counts(found.to_dict())})
        return
    print_line(
        f"{stored.model.backbone}: probability that a hit is {found.relation}, from {found.n_queries:,} queries among "
        f"{found.n_images:,} images"
    )
    for probability in _SHOWN_PROBABILITIES:
        similarity = found.curve.find_similarity(probability)
        print_line(f"  {probability:.0%} {f'from a cosine of {similarity:.3f}' if similarity <= 1 else 'at no cosine'}")
    if found.error is None:
        print_line("not checked: too few labels to hold some out")
    else:
        error = found.error
        print_line(
            f"checked on half of the labels: calibration error {error.expected:.3f}, Brier score {error.brier:.3f} "
            f"({error.brier_constant:.3f} for a constant probability)"
        )
