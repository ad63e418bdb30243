"""Methods of `Collection` as functions of a folder: each opens the collection for one call and closes it again."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from simsearch.collection import Collection

P = ParamSpec("P")
T = TypeVar("T")


def _open_for_one_call(
    method: Callable[Concatenate[Collection, P], T], *, create: bool = False
) -> Callable[Concatenate[str | os.PathLike[str], P], T]:
    def call(folder: str | os.PathLike[str], *args: P.args, **options: P.kwargs) -> T:
        with Collection.open(folder, create=create) as collection:
            return method(collection, *args, **options)

    return call


ingest = _open_for_one_call(Collection.ingest, create=True)
import_embeddings = _open_for_one_call(Collection.import_embeddings, create=True)
annotate = _open_for_one_call(Collection.annotate)
clear_columns = _open_for_one_call(Collection.clear_columns)
prune = _open_for_one_call(Collection.prune)
push = _open_for_one_call(Collection.push)
rebuild = _open_for_one_call(Collection.rebuild)
remove = _open_for_one_call(Collection.remove)
set_default_rerank = _open_for_one_call(Collection.set_default_rerank)
