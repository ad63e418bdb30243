"""The choices of options, the groups of the help, and running a command in the same process."""

from __future__ import annotations

import json
import sys
from typing import get_args

import pytest

from simsearch.cli import benchmark, duplicates, export, index, main, options
from simsearch.cli.app import app
from simsearch.duplicates.options import KEEP_RULES, TIERS
from simsearch.evaluation.protocol import PROTOCOLS
from simsearch.index.kinds import AUTO, KINDS
from simsearch.interchange.exporter import FORMATS, VectorKind
from simsearch.models.loader import ENGINES
from simsearch.models.model import POOLINGS, RESIZES
from simsearch.models.precision import PRECISION_OPTIONS


@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        (options.PoolingName, POOLINGS),
        (options.ResizeName, RESIZES),
        (options.PrecisionName, PRECISION_OPTIONS),
        (options.IndexKindName, (AUTO, *KINDS)),
        (options.StoreName, ("faiss", "milvus")),
        (index.EngineName, ENGINES),
        (export.FormatName, (*FORMATS, "projector")),
        (export.VectorKindName, get_args(VectorKind)),
        (benchmark.ProtocolName, (*PROTOCOLS, "leave-one-out")),
        (duplicates.TierName, TIERS),
        (duplicates.KeepRuleName, KEEP_RULES),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_choices_of_an_option_are_those_of_the_library(names: object, allowed: tuple[str, ...]):
    assert set(get_args(names)) == set(allowed)


def test_every_command_belongs_to_a_group_of_the_help():
    assert all(isinstance(command.rich_help_panel, str) for command in app.registered_commands)


def test_a_command_runs_in_the_same_process_and_returns_its_status(capsys: pytest.CaptureFixture[str]):
    before = list(sys.argv)
    assert main(["backbones", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["backbones"]
    assert main(["info", "--in", "nowhere"]) == 1
    assert capsys.readouterr().err.startswith("simsearch: there is no collection at nowhere")
    assert main(["export", "x.csv", "--vectors", "int8"]) == 2
    assert "simsearch export" in capsys.readouterr().err
    assert sys.argv == before
