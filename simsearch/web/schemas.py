"""What the API answers, as its OpenAPI description has it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from simsearch.search.results import Answer
from simsearch.text import replace_invalid_unicode
from simsearch.web.images import StoredImage


class Problem(BaseModel):
    """Why there is no answer: what happened, and what to do next."""

    problem: str
    advice: str


class ViewDocument(BaseModel):
    """The rendition of an image that was nearest."""

    kind: str = Field(description="`original`, or `augmented`")
    parameters: dict[str, Any] = Field(description="What was done to the picture; empty for the original.")


class HitDocument(BaseModel):
    """One image that was found."""

    rank: int = Field(ge=1)
    similarity: float = Field(description="Cosine, from -1 to 1; larger is closer.")
    image_id: int = Field(ge=1)
    path: str = Field(description="The image's first file.")
    paths: list[str] = Field(description="All files of this content.")
    view: ViewDocument


class AnswerDocument(BaseModel):
    """What was found, the nearest first."""

    query: list[str]
    backbone: str
    model: str
    rerank: str
    hits: list[HitDocument]
    milliseconds: dict[str, float]
    notes: list[str]


class FileDocument(BaseModel):
    """A file of an image, as it was when it was indexed."""

    path: str
    size_bytes: int
    modified_at: str = Field(description="Local time of the server; empty where the file's date is none.")


class ImageDocument(BaseModel):
    """An image of the collection."""

    image_id: int
    digest: str = Field(description="xxh3_128 of the file's bytes.")
    width: int = Field(description="px, upright")
    height: int = Field(description="px, upright")
    format: str
    taken_at: str | None = Field(description="As the camera's clock had it.")
    camera: str | None
    files: list[FileDocument]
    columns: dict[str, str | float] = Field(description="What its owner noted: `simsearch annotate`.")


class ModelDocument(BaseModel):
    """A model that the collection has vectors of."""

    backbone: str
    model: str
    width: int
    images: int
    views: int
    precision: str


class StatsDocument(BaseModel):
    """What the collection holds."""

    files: int
    images: int
    views: int
    skips: int
    size_bytes: int
    rerank: str = Field(description="The method that answers are ranked by unless a request says otherwise.")
    columns: dict[str, int] = Field(description="The owner's columns, each with how many images have a value.")
    models: list[ModelDocument]


class StateDocument(BaseModel):
    """Whether the server is there, and serves."""

    status: str


def build_answer_document(answer: Answer) -> dict[str, Any]:
    """An `AnswerDocument`, as plain values: a search has no time to check what it is sure of."""
    document = answer.to_api_dict()
    document["query"] = [replace_invalid_unicode(name) for name in answer.queries]
    for hit in document["hits"]:
        hit["path"] = replace_invalid_unicode(hit["path"])
        hit["paths"] = [replace_invalid_unicode(path) for path in hit["paths"]]
    return document


def build_image_document(image: StoredImage) -> ImageDocument:
    """What is known of an image."""
    files = [
        FileDocument(path=replace_invalid_unicode(file.path), size_bytes=file.size_bytes, modified_at=file.modified_at)
        for file in image.files
    ]
    return ImageDocument(
        image_id=image.image_id, digest=image.digest, width=image.width, height=image.height, format=image.format,
        taken_at=image.taken_at, camera=image.camera, files=files, columns=image.columns,
    )  # fmt: skip


def build_stats_document(info: dict[str, Any]) -> StatsDocument:
    """What `Collection.info` tells, without what is of this machine only."""
    return StatsDocument.model_validate(info)
