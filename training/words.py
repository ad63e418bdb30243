"""Make the vocabulary of word queries from WordNet 3.0: every word for which some ImageNet classes are pictures.

    apt-get download wordnet-base && dpkg -x wordnet-base_*.deb wordnet
    python training/words.py wordnet/usr/share/wordnet

An ImageNet class is a noun synset of WordNet 3.0: its identifier is the synset's offset in `data.noun`. A word (a noun
of WordNet, of one or several parts) stands for

* the classes below its synsets, the synset itself included: `dog` for 118 breeds, `crane` for the bird and the machine.
  Synsets count in WordNet's order, the most frequent first, up to the first one with 5 classes: `cat` is not `big cat`;
* if no synset of it has a class below, the nearest classes above: `fly` is a class, and `greenbottle`, a kind of fly,
  stands for it.

Synsets with more than 450 classes below (`entity`, `artifact`) say nothing about a picture and are left out. Irregular
plurals (`noun.exc`) of the words are words too; regular ones are derived by the program.

The output has a line per word: the word, a tab, and its classes as ascending ranges of positions (`151-268,273`).
"""

from __future__ import annotations

import argparse
import gzip
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[1] / "simsearch" / "models"
OUTPUT = PACKAGE / "text" / "vocabulary.tsv.gz"
MAX_CLASSES = 450
ENOUGH_CLASSES = 5


class Synset(NamedTuple):
    """A noun synset: the offsets of its hypernyms and of its hyponyms, without instances."""

    above: list[str]
    below: list[str]


def read_synsets(file: Path) -> dict[str, Synset]:
    """Read `data.noun`: synsets by offset (format: `man 5 wndb`)."""
    synsets = {}
    for line in read_lines(file):
        fields = line.partition(" | ")[0].split()
        first = 5 + 2 * int(fields[3], 16)  # the words, each with a number, lie before the pointers
        n_pointers = int(fields[first - 1])
        pointers = [fields[first + 4 * i : first + 4 * i + 3] for i in range(n_pointers)]
        synsets[fields[0]] = Synset(
            [offset for kind, offset, part in pointers if kind == "@" and part == "n"],
            [offset for kind, offset, part in pointers if kind == "~" and part == "n"],
        )
    return synsets


def read_senses(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Read `index.noun`: each word in lower case, with the offsets of its synsets."""
    for line in read_lines(file):
        fields = line.split()
        yield fields[0].replace("_", " "), fields[-int(fields[2]) :]


def read_lines(file: Path) -> Iterator[str]:
    """Read the lines after the licence, which is indented."""
    with file.open(encoding="utf-8") as lines:
        yield from (line for line in lines if not line.startswith("  "))


def map_synsets(synsets: dict[str, Synset], classes: list[str]) -> tuple[dict[str, set[int]], dict[str, set[int]]]:
    """Map offsets to class positions: of synsets at or above a class, and of those below (to the nearest above)."""
    direct: dict[str, set[int]] = defaultdict(set)
    for position, offset in enumerate(classes):
        for above in find_reachable(offset, lambda one: synsets[one].above):
            direct[above].add(position)
    kinds: dict[str, set[int]] = defaultdict(set)
    for position, offset in enumerate(classes):
        stops = direct.keys() - {offset}
        for below in find_reachable(offset, lambda one, stops=stops: [x for x in synsets[one].below if x not in stops]):
            if below not in direct:
                kinds[below].add(position)
    return {offset: found for offset, found in direct.items() if len(found) <= MAX_CLASSES}, kinds


def find_reachable(start: str, list_next: Callable[[str], Iterable[str]]) -> set[str]:
    """Find all that can be reached from `start` in any number of steps, `start` included."""
    found, waiting = {start}, [start]
    while waiting:
        new = set(list_next(waiting.pop())) - found
        found |= new
        waiting += new
    return found


def format_ranges(positions: set[int]) -> str:
    """Format ascending ranges: `1,4-6`."""
    runs: list[list[int]] = []
    for position in sorted(positions):
        if runs and runs[-1][1] == position - 1:
            runs[-1][1] = position
        else:
            runs.append([position, position])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def build_vocabulary(wordnet: Path, classes: list[str]) -> dict[str, set[int]]:
    """Build the vocabulary: words with the positions of their classes."""
    direct, kinds = map_synsets(read_synsets(wordnet / "data.noun"), classes)
    words: dict[str, set[int]] = {}
    for word, offsets in read_senses(wordnet / "index.noun"):
        for table in (direct, kinds):
            if found := join_senses([table[offset] for offset in offsets if offset in table]):
                words[word] = found
                break
    for line in read_lines(wordnet / "noun.exc"):
        plural, singular = (part.replace("_", " ") for part in line.split()[:2])
        if singular in words:
            words.setdefault(plural, words[singular])
    return words


def join_senses(senses: list[set[int]]) -> set[int]:
    """Join the classes of senses, the most frequent sense first, up to the first with enough classes."""
    found: set[int] = set()
    for sense in senses:
        found |= sense
        if len(sense) >= ENOUGH_CLASSES:
            break
    return found


def main() -> None:
    """Write the vocabulary."""
    parser = argparse.ArgumentParser(description="Make the vocabulary of word queries from WordNet 3.0.")
    parser.add_argument("wordnet", type=Path, help="folder with data.noun, index.noun and noun.exc")
    classes = [line[1:9] for line in (PACKAGE / "imagenet_classes.txt").read_text(encoding="utf-8").splitlines()]
    words = build_vocabulary(parser.parse_args().wordnet, classes)
    text = "".join(f"{word}\t{format_ranges(found)}\n" for word, found in sorted(words.items()))
    OUTPUT.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"{OUTPUT}: {len(words):,} words, {OUTPUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
