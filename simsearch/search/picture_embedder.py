"""A backbone as a function from pictures to vectors, without a collection. The package exports it as `Embedder`."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import UsageError, use_python_terms
from simsearch.images.decode import Pixels, RawFile, compute_default_max_pixels, compute_digest, read_raw_file
from simsearch.machine import count_cores
from simsearch.models.builtin.versions import has_int8_graph
from simsearch.models.choice import DEFAULT_BACKBONE, ModelChoice, relocate_weights, resolve_model
from simsearch.models.embedder import Embedder
from simsearch.models.loader import LoadOptions, open_embedder
from simsearch.models.model import Model
from simsearch.search.embed_examples import BATCH_SIZE, check_directions, select_pictures
from simsearch.search.examples import Example, QueryVector
from simsearch.search.inputs import ExampleInput, read_inputs
from simsearch.search.query_vectors import decode_example_square, refuse_network
from simsearch.sources.addresses import is_url
from simsearch.sources.web import fetch


class PictureEmbedder:
    """A backbone that embeds pictures: `embed(images)` gives (n, d) float32 unit rows.

    `backbone` is a name from `list_backbones`, a model file, or a `ModelChoice`. The network is loaded at the first use
    and kept. It runs at f32 unless the choice names another precision.

    It is a transformer of scikit-learn, too: `make_pipeline(Embedder("builtin"), LogisticRegression())` learns from
    pictures.
    """

    def __init__(self, backbone: ModelChoice | str | None = None, *, max_pixels: int | None = None) -> None:
        self.backbone = backbone
        self.max_pixels = max_pixels
        self._opened: Embedder | None = None

    @property
    def choice(self) -> ModelChoice:
        """The backbone and its options."""
        return ModelChoice.from_name(self.backbone)

    @property
    def width(self) -> int:
        """d, the length of the vectors. Raises a `ModelError` where the network cannot be loaded."""
        with use_python_terms():
            return self._open().width

    @property
    def model(self) -> Model:
        """The model: the backbone with every detail that changes its vectors. Raises a `ModelError`."""
        with use_python_terms():
            return self._open().model

    def embed(self, images: ExampleInput) -> NDArray[np.float32]:
        """Embed pictures: (n, d) unit rows in their order; (d,) of a picture that is in no list.

        A picture is a path, an address, the bytes of a file, a file open in binary mode, a Pillow image, pixels
        (h, w, 3) uint8 RGB, or an `Example` with a crop. Raises `ImageError` on the first that cannot be read,
        `UsageError` on a vector, an id or a text, or a `ModelError`.
        """
        with use_python_terms():
            examples, is_single = read_inputs(images)
            pictures = select_pictures(examples)
            embedder = self._open()
            blocks = [np.empty((0, embedder.width), np.float32)]
            with ThreadPoolExecutor(count_cores()) as pool:
                for start in range(0, len(pictures), BATCH_SIZE):
                    batch = pictures[start : start + BATCH_SIZE]
                    squares = list(pool.map(lambda example: self._decode(example, embedder.model), batch))
                    blocks.append(embedder.embed(np.stack(squares)))
                    check_directions(batch, blocks[-1], embedder.model.backbone)
            rows: NDArray[np.float32] = np.concatenate(blocks)
            return rows[0] if is_single else rows

    __call__ = embed

    def _open(self) -> Embedder:
        if self._opened is None:
            choice = self.choice
            model = resolve_model(choice)
            if choice.precision != "auto":
                if choice.precision == "int8" and not has_int8_graph(model):
                    problem = f"int8 of {model.backbone} is calibrated on the pictures of a collection"
                    raise UsageError(problem, "use --precision f32 or bf16, or index pictures into a collection")
                model = replace(model, precision=choice.precision)
            options = LoadOptions(
                engine=choice.engine,
                for_throughput=True,
                locate=lambda found: relocate_weights(found, choice.weights_options),
            )
            self._opened = open_embedder(model, options)
        return self._opened

    def _decode(self, example: Example, model: Model) -> Pixels:
        limit = self.max_pixels or compute_default_max_pixels()
        return decode_example_square(self._read(example, limit), example.crop, model, limit)

    def _read(self, example: Example, max_pixels: int) -> RawFile:
        picture = example.picture
        if isinstance(picture, int | QueryVector):
            raise UsageError(f"{example} is no picture", "ids and vectors belong to a collection: `Collection.embed`")
        if not isinstance(picture, bytes):
            path = str(picture)
            if self.choice.offline:
                refuse_network([path])
            if not is_url(path):
                return read_raw_file(path, has_picture_extension=True, max_pixels=max_pixels)
            picture = fetch(path)
        return RawFile(str(example), picture, compute_digest(picture), len(picture), 0)

    # The interface of a transformer of scikit-learn

    def fit(self, images: Sequence[Any], y: object = None) -> Self:
        """Return the embedder itself: there is nothing to fit."""
        return self

    def transform(self, images: Sequence[Any]) -> NDArray[np.float32]:
        """Embed a sequence of pictures as (n, d) unit rows, as `embed` does."""
        return self.embed(list(images))

    def fit_transform(self, images: Sequence[Any], y: object = None) -> NDArray[np.float32]:
        """Embed a sequence of pictures, as `transform` does."""
        return self.transform(images)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of this embedder by name."""
        return {"backbone": self.backbone, "max_pixels": self.max_pixels}

    def set_params(self, **values: Any) -> Self:
        """Set arguments by name; the network is loaded again. Raises `UsageError` on an unknown name."""
        for name, value in values.items():
            if name not in self.get_params():
                raise UsageError(f"Embedder has no parameter {name!r}", "its parameters are backbone and max_pixels")
            setattr(self, name, value)
        self._opened = None
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags  # scikit-learn is asking

        return Tags(
            estimator_type="transformer", target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(), input_tags=InputTags(two_d_array=False), requires_fit=False,
        )  # fmt: skip

    def __repr__(self) -> str:
        name = self.choice.backbone or DEFAULT_BACKBONE
        return f"Embedder({name!r}, {self._opened.width} d)" if self._opened else f"Embedder({name!r})"
