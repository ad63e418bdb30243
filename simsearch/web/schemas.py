"""The response schemas of the API, as its OpenAPI description shows them."""

from __future__ import annotations

import os
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt

from simsearch.store.snapshot import StoredImage
from simsearch.web.path_names import PathNames
from simsearch.web.query import MAX_ID


class Problem(BaseModel):
    """An error, as RFC 9457 describes it, with what to do."""

    type: str
    title: str = Field(description="The meaning of the status.")
    status: int
    detail: str = Field(description="What failed, on which object.")
    problem: str = Field(description="The same as `detail`.")
    advice: str = Field(description="What to do.")


class ViewDocument(BaseModel):
    """The most similar view of an image."""

    kind: str = Field(description="`original`, or `augmented`")
    parameters: dict[str, Any] = Field(description="Parameters of the augmentation; empty for the original.")


class VerificationDocument(BaseModel):
    """The comparison of a hit with the pixels of the query, by `rerank=geometric`."""

    mark: str = Field(description="`same picture`, `part of` or `unverified`")
    kinds: list[str] = Field(description="How the two pictures differ.")
    inliers: int = Field(description="Local features that fit the alignment.")
    agreement: float = Field(description="Share of the compared parts that agree, from 0 to 1.")
    whole: str | None = Field(description="`query` or `hit`: the picture that shows more.")
    box: list[float] | None = Field(description="Left, top, right, bottom of the part in it, as shares of its size.")


class HitDocument(BaseModel):
    """An image in the result."""

    rank: int = Field(ge=1)
    similarity: float = Field(description="Cosine similarity, from -1 to 1.")
    image_id: int = Field(ge=1)
    path: str = Field(description="The image's first file.")
    paths: list[str] = Field(description="All files with this content.")
    view: ViewDocument
    probability: float | None = Field(
        description="Probability of the relation that `probability_of` names; null without a calibration."
    )
    verification: VerificationDocument | None = Field(description="Null unless `rerank` is `geometric`.")


class AnswerDocument(BaseModel):
    """The result of a search, most similar images first."""

    query: list[str]
    backbone: str
    model: str
    rerank: str
    probability_of: str = Field(description="Such as `of the same class`; empty without a calibration.")
    hits: list[HitDocument]
    milliseconds: dict[str, float]
    notes: list[str]


class BatchRequest(BaseModel):
    """Several searches. Each is an object with the parameters of a search, and perhaps `image`, a picture in Base64."""

    model_config = ConfigDict(extra="forbid")

    searches: list[dict[str, Any]] = Field(min_length=1, max_length=64, examples=[[{"id": [1], "k": 5}]])


class BatchDocument(BaseModel):
    """The answers to several searches, in their order; an error where a search failed."""

    answers: list[AnswerDocument | Problem]


class EmbeddingDocument(BaseModel):
    """The unit vectors of pictures, in their order."""

    backbone: str
    width: int = Field(description="The length of a vector.")
    vectors: list[list[float]]


class FileDocument(BaseModel):
    """A file of an image, as it was when it was indexed."""

    path: str
    size_bytes: int
    modified_at: str = Field(description="Local time of the server; empty if the file has no valid date.")


class ImageDocument(BaseModel):
    """An image of the collection."""

    image_id: int
    digest: str = Field(description="xxh3_128 of the file's bytes.")
    width: int = Field(description="px, after EXIF rotation")
    height: int = Field(description="px, after EXIF rotation")
    format: str
    taken_at: str | None = Field(description="EXIF date, in the local time of the camera.")
    camera: str | None
    files: list[FileDocument]
    columns: dict[str, str | float] = Field(description="User columns: `simsearch annotate`.")

    @classmethod
    def from_image(cls, image: StoredImage, paths: PathNames) -> Self:
        """Describe a stored image, with the names of files that visitors see."""
        files = [
            FileDocument(path=paths.name(file.path), size_bytes=file.size_bytes, modified_at=file.modified_at)
            for file in image.files
        ]
        return cls(
            image_id=image.image_id, digest=image.digest, width=image.width, height=image.height, format=image.format,
            taken_at=image.taken_at, camera=image.camera, files=files, columns=dict(image.columns),
        )  # fmt: skip


class BriefImageDocument(BaseModel):
    """What a grid of thumbnails shows of an image."""

    image_id: int
    name: str = Field(description="The name of the first file.")
    width: int
    height: int

    @classmethod
    def from_image(cls, image: StoredImage, paths: PathNames) -> Self:
        """Describe a stored image."""
        name = paths.name(image.files[0].path).rpartition(os.sep)[2]
        return cls(image_id=image.image_id, name=name, width=image.width, height=image.height)


class ImageListDocument(BaseModel):
    """A page of a list of images. An image is brief if the request says so."""

    total: int = Field(description="The number of all images that match.")
    start: int = Field(description="The position of the first image of the page.")
    images: list[ImageDocument | BriefImageDocument]
    next: str | None = Field(description="The cursor of the next page; null at the end.")


class FacetValueDocument(BaseModel):
    """A value of a facet."""

    value: str | float | None = Field(description="Null for images without a value.")
    images: int
    where: str = Field(description="The filter that selects these images.")


class FacetDocument(BaseModel):
    """The most frequent values of a property."""

    name: str
    distinct: int = Field(description="The number of all values.")
    values: list[FacetValueDocument]


class FacetsDocument(BaseModel):
    """The properties of the images that match a filter."""

    total: int
    facets: list[FacetDocument]


_ColumnName = Annotated[str, Field(min_length=1, max_length=100, examples=["label"])]
_ColumnText = Annotated[str, Field(max_length=1000)]
_SomeId = Annotated[int, Field(ge=1, le=MAX_ID)]


class AnnotationChange(BaseModel):
    """A value for a column of some images; null deletes their values."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    image_ids: list[_SomeId] = Field(max_length=100_000, examples=[[1]])
    column: _ColumnName
    value: _ColumnText | Annotated[StrictInt, Field(ge=-MAX_ID, le=MAX_ID)] | StrictFloat | None = Field(
        examples=["lamp"]
    )


class AnnotationRequest(BaseModel):
    """Changes of columns of your own."""

    model_config = ConfigDict(extra="forbid")

    changes: list[AnnotationChange] = Field(min_length=1, max_length=1000)


class AnnotationUndo(BaseModel):
    """The value that some images had before; null where they had none."""

    image_ids: list[int]
    column: str
    value: str | float | None


class AnnotationDocument(BaseModel):
    """The number of values that were set, and the changes that undo it."""

    values: int
    undo: list[AnnotationUndo]


class JobDocument(BaseModel):
    """A job that runs in the background."""

    job_id: str
    kind: str
    state: str = Field(description="`waiting`, `running`, `done`, `failed` or `cancelled`")
    stage: str
    fraction: float = Field(description="The part that is done, from 0 to 1.")
    problem: str | None = Field(description="Why it failed.")


class DuplicateFileDocument(BaseModel):
    """A file of an image in a group, with what to do with it, and why."""

    path: str
    action: str = Field(description="`keep`, `remove` or `look`")
    reason: str


class DuplicateMemberDocument(BaseModel):
    """An image of a group."""

    image_id: int
    similarity: float = Field(description="Cosine to the first image of the group.")
    difference: str = Field(description="How it differs from another one; empty for the first.")
    files: list[DuplicateFileDocument]


class DuplicateGroupDocument(BaseModel):
    """Images that are duplicates of each other, the one to keep first."""

    tier: str
    freed_bytes: int
    members: list[DuplicateMemberDocument]


class DuplicatesDocument(BaseModel):
    """A page of the groups of duplicates."""

    total: int
    freed_bytes: int
    start: int
    groups: list[DuplicateGroupDocument]
    next: int | None = Field(description="The `start` of the next page; null at the end.")


class PairDocument(BaseModel):
    """Two images that show the same picture, verified by their pixels."""

    images: list[int]
    kind: str
    similarity: float


class PairsDocument(BaseModel):
    """A page of the pairs of copies."""

    total: int
    start: int
    pairs: list[PairDocument]
    next: int | None


class QualityFindingDocument(BaseModel):
    """A picture that is worth a look."""

    kind: str
    image_id: int
    path: str
    value: float = Field(description="The measured number.")
    reason: str


class QualityDocument(BaseModel):
    """A page of the pictures that are worth a look, by kind, the worst first."""

    images: int = Field(description="The number of images that were checked.")
    unread: int = Field(description="The number of images whose files cannot be read.")
    labels: str = Field(description="Where the labels come from; empty without labels.")
    counts: dict[str, int] = Field(description="The number of findings of each kind.")
    total: int
    start: int
    findings: list[QualityFindingDocument]
    next: int | None


class ClusterDocument(BaseModel):
    """Similar images, the most typical first."""

    cluster: int
    size: int
    tightness: float = Field(description="The mean cosine to the mean direction.")
    label: str | None
    image_ids: list[int]


class ClustersDocument(BaseModel):
    """The clusters of a collection, or of a sample of it."""

    backbone: str
    images: int
    of_images: int
    clusters: list[ClusterDocument]


class MapPointDocument(BaseModel):
    """The place of an image, from 0 to 1 from the upper left corner, and its cluster."""

    image_id: int
    x: float
    y: float
    cluster: int | None


class MapDocument(BaseModel):
    """The images on a plane, similar ones close together."""

    backbone: str
    images: int
    of_images: int
    points: list[MapPointDocument]


class ModelDocument(BaseModel):
    """A model whose vectors are in the collection."""

    backbone: str
    model: str
    width: int
    images: int
    views: int
    precision: str


class StatsDocument(BaseModel):
    """Statistics of the collection."""

    files: int
    images: int
    views: int
    skips: int
    size_bytes: int
    rerank: str = Field(description="The default re-ranking method.")
    columns: dict[str, int] = Field(description="User columns, each with the number of images that have a value.")
    models: list[ModelDocument]


class AddedImageDocument(BaseModel):
    """A picture that was added. `image_id` is null until it is indexed, and where `problem` says why it is not."""

    name: str = Field(description="The name of its file: digest and extension.")
    digest: str = Field(description="The xxh3_128 of its content.")
    image_id: int | None
    problem: str | None


class AddedImagesDocument(BaseModel):
    """The pictures of a request, in its order. `job` is null where the collection had all of them before."""

    images: list[AddedImageDocument]
    job: JobDocument | None


class CollectionDocument(BaseModel):
    """A collection of the server."""

    name: str
    root: str = Field(description="What its addresses begin with; empty for the only collection of a server.")
    images: int


class StateDocument(BaseModel):
    """The state of the server."""

    status: str
