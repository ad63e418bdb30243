"""The parameters of API requests: in the query string, as form fields, or as the fields of a JSON object.

Unknown parameters are errors that name the parameters that look alike.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simsearch.errors import SimsearchError
from simsearch.web.query import (
    MAX_EXAMPLES,
    MAX_ID,
    MAX_OFFSET,
    MAX_RESULTS,
    MAX_TEXT_LENGTH,
    MAX_WHERE_LENGTH,
    Rerank,
)

_SomeModel = TypeVar("_SomeModel", bound=BaseModel)

ImageIdNumber = Annotated[int, Field(ge=1, le=MAX_ID)]
_Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_LENGTH)]
_Ids = Annotated[list[ImageIdNumber], Field(max_length=MAX_EXAMPLES)]
_Texts = Annotated[list[_Text], Field(max_length=MAX_EXAMPLES)]

WHERE = "Filter on the images, such as `width >= 800 and class = 'lamp'`."
WHERE_EXAMPLE = "width >= 800"
_CROP_EXAMPLE = "0.1,0.1,0.5,0.5"


class InvalidParameters(SimsearchError):
    """The parameters of a request are unknown or have invalid values."""


class SearchParameters(BaseModel):
    """The parameters of a search that are no pictures."""

    model_config = ConfigDict(extra="forbid")

    id: _Ids = Field(default_factory=list, description="Ids of positive examples.", examples=[[1]])
    unlike_id: _Ids = Field(default_factory=list, description="Ids of negative examples.")
    text: _Texts = Field(
        default_factory=list,
        description="What results should show: words with an ImageNet network, any text with a model that has a text "
        "tower.",
    )
    unlike_text: _Texts = Field(default_factory=list, description="What results should not show.")
    url: str | None = Field(
        default=None, max_length=2000, description="URL of a positive example, if the server allows URLs."
    )
    crop: str | None = Field(
        default=None,
        max_length=100,
        description="Crop of the first picture: x,y,w,h in px, or in fractions of its size.",
        examples=[_CROP_EXAMPLE],
    )
    where: str | None = Field(default=None, max_length=MAX_WHERE_LENGTH, description=WHERE, examples=[WHERE_EXAMPLE])
    k: int = Field(default=20, ge=1, le=MAX_RESULTS, description="Number of results.")
    offset: int = Field(default=0, ge=0, le=MAX_OFFSET, description="Number of results to skip.")
    min_similarity: float = Field(default=-1.0, ge=-1, le=1)
    min_probability: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Leaves out less probable results; needs a model that `simsearch calibrate` has calibrated.",
    )
    exclude_self: bool = Field(default=False, description="Leave out images with the same content as a query picture.")
    backbone: str | None = Field(default=None, max_length=200)
    rerank: Rerank = "default"


class UploadParameters(BaseModel):
    """The parameters of adding pictures."""

    model_config = ConfigDict(extra="forbid")

    wait: float = Field(
        default=10.0,
        ge=0,
        le=25,
        description="Seconds to wait for the ids of new pictures, which are there when they have been indexed.",
    )


class EmbedParameters(BaseModel):
    """The parameters of embedding that are no pictures."""

    model_config = ConfigDict(extra="forbid")

    id: _Ids = Field(default_factory=list, description="Ids of stored images.", examples=[[1]])
    text: _Texts = Field(default_factory=list, description="Texts, for a model that has a text tower.")
    backbone: str | None = Field(default=None, max_length=200)


def parse_fields(model: type[_SomeModel], fields: Iterable[tuple[str, str]]) -> _SomeModel:
    """Parse names and values of a form or a query string. Raises `InvalidParameters`."""
    values: dict[str, Any] = {}
    for name, value in fields:
        if _is_list(model, name):
            values.setdefault(name, []).append(value)
        elif name in values:
            raise InvalidParameters(f"{name} is given twice", "give it once")
        else:
            values[name] = value
    return parse_object(model, values)


def parse_object(model: type[_SomeModel], values: Mapping[str, Any]) -> _SomeModel:
    """Parse the fields of an object. Raises `InvalidParameters`."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = "; ".join(
            describe_problem(".".join(map(str, one["loc"])), one["type"], one["msg"], list(model.model_fields))
            for one in error.errors()[:5]
        )
        raise InvalidParameters(problem, "see /api/v1/openapi.json") from error


def describe_problem(name: str, kind: str, message: str, known: Sequence[str]) -> str:
    """Describe an invalid value, or an unknown parameter with the parameters that look alike."""
    if kind != "extra_forbidden":
        return f"{name or 'the request'}: {message}"
    return describe_unknown(name, known)


def describe_unknown(name: str, known: Sequence[str]) -> str:
    """Describe an unknown parameter with those that look alike, or with all."""
    shown = name if len(name) <= 40 else f"{name[:40]}…"
    near = difflib.get_close_matches(name[:40], known, 3, 0.5)
    if near:
        return f"unknown parameter {shown!r}; did you mean {' or '.join(near)}?"
    return f"unknown parameter {shown!r}; " + (f"known are {', '.join(known)}" if known else "there are none")


def describe_form(model: type[BaseModel], pictures: Mapping[str, str]) -> dict[str, Any]:
    """Describe the body of a request for OpenAPI: fields in a form with picture files, or one picture as it is."""
    schema = model.model_json_schema()
    fields = {"type": "object", "properties": schema["properties"], "additionalProperties": False}
    binary = {"type": "string", "contentMediaType": "application/octet-stream", "format": "binary"}
    files = {
        name: {"type": "array", "items": binary, "maxItems": MAX_EXAMPLES, "description": text}
        for name, text in pictures.items()
    }
    with_files = fields | {"properties": schema["properties"] | files}
    return {
        "content": {
            "multipart/form-data": {"schema": with_files},
            "application/x-www-form-urlencoded": {"schema": fields},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        }
    }


def _is_list(model: type[BaseModel], name: str) -> bool:
    found = model.model_fields.get(name)
    return found is not None and found.default_factory is list
