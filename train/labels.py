"""What people call cells, made into labels: a class's name, or something else that a smear contains.

A label that is no class teaches a model to decline. So one that is nearly a class, misspelt or in other
words, is never taken for that: it is refused, with the class that it is nearest to.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from hematovision.cell_classes import CLASS_NAMES
from hematovision.errors import DataSetError

# Begins a label that is of no class, whatever stands after it: the way out where one is refused wrongly.
_OTHER = "other"

# Short for a class, or for a kind of it that is counted with it; without an s at the end, as of a plural.
_SHORT = {
    "neutrophil": "ne neu neut neutro seg segmented pmn polymorph sne ng",
    "eosinophil": "eo eosi eosino",
    "monocyte": "mo mon mono",
    "lymphocyte": "ly lym lymp lymph lympho lyt",
}
_CLASS_OF_SHORT = {short: name for name, words in _SHORT.items() for short in words.split()}
# Beside a class's name they make it another cell, or say that it is none.
_ANOTHER_WORDS = """
abnormal activated apoptotic artefact artifact atypical blast broken burst damaged degenerated dysplastic
immature juvenile leukaemic leukemic lymphoblast malignant metamyelocyte monoblast myeloblast myelocyte
neoplastic no non not other plasmacytoid pre precursor pro promonocyte promyelocyte reactive smudge smudged
unknown variant
"""
_ANOTHER = frozenset(_ANOTHER_WORDS.split())
# Likewise in one word with it: promonocyte, prolymphocyte.
_ANOTHER_BEFORE = ("pro", "pre", "non", "meta", "para")

# Ways to write one sound; by it a word by ear or in another language is near: Lymphozyt, limfosit, linfocito.
_SOUNDS = (("ph", "f"), ("y", "i"), ("z", "c"), ("k", "c"), ("s", "c"))
_MIN_LETTERS = 6  # of a word that may be a misspelt class
# Of two typos only where the first letter is right: codocyte, oncocyte and podocyte are two from monocyte.
_MOST_TYPOS, _MOST_TYPOS_ELSE = 2, 1

_WORD = re.compile(r"[^\W_]+|\?")  # a question mark is a doubt, all other signs are slips
_WORDS_JOINED = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])")  # as in SegmentedNeutrophil
_PLURAL = re.compile(r"(?<=[^s])s$")


def label_of(text: str) -> str:
    """The label that a folder's name or a table's text means.

    In lower case, its words joined by ``_``; signs at both ends and the s of a plural are gone. Both
    ``"Neutrophils "`` and ``"NEUTROPHIL_"`` are ``neutrophil``.
    """
    text = unicodedata.normalize("NFKC", text)
    words = _WORD.findall(_WORDS_JOINED.sub(" ", text).lower())
    return _PLURAL.sub("", "_".join(words)) or text.strip().lower()


def is_class_or_other(label: str) -> bool:
    """Whether a label of `label_of` is a class, or says itself that it is none of the four."""
    return label in CLASS_NAMES or label.split("_")[0] == _OTHER


def nearest_class(label: str) -> str | None:
    """The class that a label of `label_of` nearly names; None for a class itself, and for another cell."""
    words = label.split("_")
    if is_class_or_other(label) or not _ANOTHER.isdisjoint(words):
        return None
    return next(filter(None, map(_class_of_word, (*words, "".join(words)))), None)


def refuse_near_misses(source: str, labels: Iterable[str]) -> None:
    """Raise `DataSetError` where a label nearly names a class; ``source`` is what the message calls them."""
    near = {label: nearest for label in sorted(set(labels)) if (nearest := nearest_class(label))}
    if not near:
        return
    said = ", ".join(f"'{label}' ({nearest}?)" for label, nearest in near.items())
    first = next(iter(near))
    raise DataSetError(
        f"{source}: nearly a class, and so not taken for a cell of none: {said}; write the class's name, or "
        f"'{_OTHER} {first}' where it is none of the four"
    )


def of_no_class(labels: Iterable[str]) -> str:
    """The labels that are none of the four classes, each with how often it is there; empty without any."""
    counts = Counter(label for label in labels if label not in CLASS_NAMES)
    return ", ".join(f"{label} {count}" for label, count in sorted(counts.items()))


def _class_of_word(word: str) -> str | None:
    word = _PLURAL.sub("", word)
    if word in _CLASS_OF_SHORT:
        return _CLASS_OF_SHORT[word]
    if any(word.startswith(one) and _class_of_word(word.removeprefix(one)) for one in _ANOTHER_BEFORE):
        return None
    return next((name for name in CLASS_NAMES if name in word or _is_misspelt(word, name)), None)


def _is_misspelt(word: str, name: str) -> bool:
    if len(word) < _MIN_LETTERS:
        return False
    most = _MOST_TYPOS if word[0] == name[0] else _MOST_TYPOS_ELSE
    return min(_typos(word, name), _typos(_as_heard(word), _as_heard(name))) <= most


def _as_heard(word: str) -> str:
    """A word without accents, doubled letters and other ways to write its sounds."""
    word = "".join(
        letter for letter in unicodedata.normalize("NFKD", word) if not unicodedata.combining(letter)
    )
    for written, sound in _SOUNDS:
        word = word.replace(written, sound)
    return re.sub(r"(.)\1", r"\1", word)


def _typos(one: str, other: str) -> int:
    """How many letters are wrong, lacking, too many or swapped with the next (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, right in enumerate(other, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != right)))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == right:
                row[j] = min(row[j], last[j - 2] + 1)
    return row[-1]
