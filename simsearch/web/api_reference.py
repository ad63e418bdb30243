"""The reference of the API as a page, made from its OpenAPI description."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_METHODS = ("get", "post", "delete")


@dataclass(frozen=True, slots=True)
class ParameterEntry:
    """A parameter of an operation: its name, its type in words, and its default as text or None."""

    name: str
    type: str
    description: str
    required: bool
    default: str | None


@dataclass(frozen=True, slots=True)
class OperationEntry:
    """An operation of the API. `body` are the media types that it takes, `statuses` its statuses with their meaning."""

    id: str
    method: str
    path: str
    summary: str
    more: str
    parameters: tuple[ParameterEntry, ...]
    body: tuple[str, ...]
    statuses: tuple[tuple[str, str], ...]


def list_operations(description: Mapping[str, Any]) -> dict[str, list[OperationEntry]]:
    """List the operations of an OpenAPI description by their tags."""
    tags: dict[str, list[OperationEntry]] = {}
    schemas = description["components"]["schemas"]
    for path, operations in description["paths"].items():
        for method in _METHODS:
            if (operation := operations.get(method)) is not None:
                entry = _describe_operation(method, path, operation, schemas)
                tags.setdefault(operation["tags"][0], []).append(entry)
    return tags


def _describe_operation(
    method: str, path: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]
) -> OperationEntry:
    summary, _, more = operation.get("description", "").partition("\n\n")
    body = operation.get("requestBody", {}).get("content", {})
    parameters = {
        one.name: one
        for one in (
            *_list_body_fields(body, schemas),
            *(_describe_parameter(one["name"], one["schema"], one) for one in operation.get("parameters", ())),
        )
    }
    statuses = tuple((status, one["description"]) for status, one in sorted(operation["responses"].items()))
    return OperationEntry(
        operation["operationId"], method.upper(), path, summary, more, tuple(parameters.values()), tuple(body), statuses
    )


def _list_body_fields(body: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[ParameterEntry]:
    for content in body.values():
        schema = content["schema"]
        schema = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        required = schema.get("required", ())
        for name, field in schema.get("properties", {}).items():
            yield _describe_parameter(name, field, {"required": name in required})


def _describe_parameter(name: str, schema: Mapping[str, Any], around: Mapping[str, Any]) -> ParameterEntry:
    default = schema.get("default")
    text = around.get("description") or schema.get("description", "")
    return ParameterEntry(
        name,
        _describe_type(schema),
        text,
        bool(around.get("required")),
        None if default in (None, "") else str(default),
    )


def _describe_type(schema: Mapping[str, Any]) -> str:
    """Describe the type of a value in a few words, such as `integer, 1 to 200`."""
    if "anyOf" in schema:
        return " or ".join(_describe_type(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_describe_type(schema['items'])}"
    kind = str(schema.get("type", "object"))
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None and abs(high) < 2**53:
        return f"{kind}, {low:g} to {high:g}"
    return "file" if schema.get("format") == "binary" else kind
