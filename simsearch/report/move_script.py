"""A shell script that moves the removable files of a report to a folder. simsearch itself moves and deletes nothing."""

from __future__ import annotations

from simsearch.duplicates.results import DuplicateReport
from simsearch.sources.addresses import is_remote

_HEAD = """\
#!/bin/sh
# Made by simsearch duplicates. It moves copies to a folder of your choice and deletes nothing:
#
#     sh THIS-FILE FOLDER
#
# A file keeps its whole path below FOLDER, so that it can be moved back. A file stays where it is if the file to keep
# is missing or empty, if both are one file, if an identical file is no longer identical, or if FOLDER has such a file.
LC_ALL=C
export LC_ALL
if [ $# -ne 1 ] || [ -z "$1" ]; then
    echo "usage: sh $0 FOLDER" >&2
    exit 2
fi
case $1 in
    /*) folder=$1 ;;
    *) folder=$PWD/$1 ;;
esac
n_moved=0
n_left=0

leave() {
    printf 'not moved, %s: %s\\n' "$1" "$2" >&2
    n_left=$((n_left + 1))
}

# move KIND KEPT FILE
move() {
    to=$folder$3
    if [ ! -f "$3" ] || [ -L "$3" ]; then
        leave 'no regular file' "$3"
    elif [ ! -s "$2" ]; then
        leave "the file to keep is missing, $2" "$3"
    elif [ "$2" -ef "$3" ]; then
        leave 'it is the file to keep' "$3"
    elif [ "$1" = exact ] && ! cmp -s "$2" "$3"; then
        leave "it differs from $2" "$3"
    elif [ -e "$to" ] || [ -L "$to" ]; then
        leave 'the folder has such a file' "$3"
    elif mkdir -p -- "${to%/*}" && mv -- "$3" "$to"; then
        n_moved=$((n_moved + 1))
    else
        leave 'mv failed' "$3"
    fi
}

"""

_TAIL = """
echo "$n_moved files moved, $n_left left where they are"
[ "$n_left" -eq 0 ]
"""


def build_move_script(report: DuplicateReport) -> bytes:
    """Build a POSIX shell script with one line for each removable local file; names are quoted byte by byte.

    Remote files are left out, because `mv` cannot move them.
    """
    lines = [_HEAD.encode()]
    for group in report.groups:
        for path in group.removable_paths:
            kept, is_copy = group.find_keeper(path)
            if not is_remote(path) and not is_remote(kept):
                kind = b"exact" if is_copy else b"edit"
                lines.append(b"move %s %s %s\n" % (kind, _quote(kept), _quote(path)))
    return b"".join([*lines, _TAIL.encode()])


def _quote(path: str) -> bytes:
    """Quote a path for a shell: every byte is literal in single quotes, except the single quote itself."""
    return b"'" + path.encode("utf-8", "surrogateescape").replace(b"'", b"'\\''") + b"'"
