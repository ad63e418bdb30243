"""A plugin of pytest that adds up the processor time of each file of tests, processes included.

    python -m pytest -p tests.support.processor_time ...

On a machine that does other work, too, the time on the clock says little; processor time is nearly the same. That of a
server counts where it ends, and what a module imports when it is collected counts as none of a test.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator

import pytest

_PROPERTY = "processor_s"
_N_FILES = 60
_since = 0.0


def read_processor_time() -> float:
    """The seconds that this process and those that it has waited for computed so far."""
    return sum(os.times()[:4])


def pytest_runtest_logstart() -> None:
    """Count from the beginning of the test."""
    global _since
    _since = read_processor_time()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Give each report, of which a test has three, the time since the one before."""
    global _since
    report = yield
    now = read_processor_time()
    report.user_properties.append((_PROPERTY, now - _since))
    _since = now
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the files that took most."""
    by_file: dict[str, float] = defaultdict(float)
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        by_file[getattr(report, "nodeid", "").partition("::")[0]] += dict(getattr(report, "user_properties", ())).get(
            _PROPERTY, 0.0
        )
    terminalreporter.section(f"processor time: {sum(by_file.values()):.0f} s in {len(by_file)} files")
    for file, seconds in sorted(by_file.items(), key=lambda row: -row[1])[:_N_FILES]:
        terminalreporter.write_line(f"{seconds:7.1f} s  {file}")
