"""The response schemas of the API, as its OpenAPI description shows them."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, Field

from simsearch.store.snapshot import StoredImage
from simsearch.text import replace_invalid_unicode


class Problem(BaseModel):
    """An error: the problem, and what to do."""

    problem: str
    advice: str


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
    def from_image(cls, image: StoredImage) -> Self:
        """Describe a stored image; bytes in paths that are not UTF-8 become U+FFFD."""
        files = [
            FileDocument(
                path=replace_invalid_unicode(file.path), size_bytes=file.size_bytes, modified_at=file.modified_at
            )
            for file in image.files
        ]
        return cls(
            image_id=image.image_id, digest=image.digest, width=image.width, height=image.height, format=image.format,
            taken_at=image.taken_at, camera=image.camera, files=files, columns=dict(image.columns),
        )  # fmt: skip


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


class StateDocument(BaseModel):
    """The state of the server."""

    status: str
