"""Convert the ground truth of the revisited Oxford and Paris sets from its published pickle to JSON for `--labels`.

    python -m bench.convert_revisited gnd_roxford5k.pkl roxford5k.json
    simsearch benchmark roxford5k/jpg --labels roxford5k.json

The published files (Radenović et al. 2018, https://github.com/filipradenovic/revisitop) are pickles of a dict: `imlist`
are the names of the database images, `qimlist` those of the queries, and `gnd` has for each query the box `bbx` and the
positions in `imlist` of its `easy`, `hard` and `junk` images. The JSON has the same content.

A pickle can run code when it is read. This reader accepts numbers, text, lists, dicts and NumPy arrays only.
"""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

_NUMPY_NAMES = ("_reconstruct", "_frombuffer", "ndarray", "dtype", "scalar")
"""The functions and classes in pickles of NumPy arrays and numbers."""

_BYTES_NAMES = {("_codecs", "encode"), ("__builtin__", "bytes")}
"""The form of bytes that Python 3 writes for Python 2."""


class PlainUnpickler(pickle.Unpickler):
    """Unpickles plain data and NumPy arrays, and refuses everything that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        """The class or function of that name; `UnpicklingError` where it is not allowed."""
        if module.split(".")[0] == "numpy" and name in _NUMPY_NAMES:
            # NumPy 2 renamed the module that pickles of older versions refer to.
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        if (module, name) in _BYTES_NAMES:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it contains {module}.{name}, which is not plain data")


def read_pickle(stream: IO[bytes]) -> dict[str, Any]:
    """Read the published form as plain lists, texts and numbers.

    Raises `UnpicklingError` where the pickle is damaged, contains anything but plain data, or has another form.
    """
    try:
        content = PlainUnpickler(stream, encoding="latin1").load()
        names = {key: [str(name) for name in content[key]] for key in ("imlist", "qimlist")}
        return names | {"gnd": [_convert_truth(truth) for truth in content["gnd"]]}
    except pickle.UnpicklingError:
        raise
    # The documentation of pickle lists these, and says that there may be more, for bytes that are not a pickle.
    except (
        AttributeError, EOFError, ImportError, LookupError, MemoryError, OverflowError, TypeError, ValueError
    ) as error:  # fmt: skip
        raise pickle.UnpicklingError(f"it is not a ground truth of the revisited sets: {error!r}") from error


def _convert_truth(truth: dict[str, Any]) -> dict[str, Any]:
    answers = {grade: [int(position) for position in truth[grade]] for grade in ("easy", "hard", "junk")}
    box = truth.get("bbx")
    return ({} if box is None else {"bbx": [float(value) for value in box]}) | answers


def main(arguments: Sequence[str] | None = None) -> None:
    """Convert the file named on the command line; `SystemExit` with one line where it cannot be read."""
    parser = argparse.ArgumentParser(description="Convert gnd_roxford5k.pkl or gnd_rparis6k.pkl to JSON for --labels.")
    parser.add_argument("pickle", type=Path, help="the published file")
    parser.add_argument("json", type=Path, help="the file to write")
    options = parser.parse_args(arguments)
    try:
        with options.pickle.open("rb") as stream:
            content = read_pickle(stream)
    except (OSError, pickle.UnpicklingError) as error:
        raise SystemExit(f"{options.pickle} cannot be read: {error}") from None
    options.json.write_text(json.dumps(content), encoding="utf-8")
    print(f"{options.json}: {len(content['qimlist'])} queries, {len(content['imlist'])} images")


if __name__ == "__main__":
    main()
