"""Labelled sentences, and their split into a training and a validation part."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightning_attnflow._checks import (
    check_integer,
    check_items,
    check_rows,
    check_seed,
    check_text,
    check_texts,
    is_integer,
)
from lightning_attnflow._words import counted
from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.labels import clean_labels, label_names, shown_classes


@dataclass(frozen=True)
class LabelledTexts:
    """Sentences with class labels. Iterating over it yields pairs (text, class index).

    Args:
        texts: the n sentences.
        labels: the class index of each sentence, n integers.
        classes: the names of the classes.
        rows: the row of each sentence in the user's file, n integers; default: 1 to n.
        notes: remarks about the file, such as the number of rows with line breaks.

    Raises:
        InputError: different lengths, a text that is no string or not valid Unicode, or a label that is no index of
            ``classes``.

    Example:
        >>> sentences = LabelledTexts.of(["a fine film", "a dull film"], ["pos", "neg"])
        >>> sentences.labels, sentences.classes
        ((1, 0), ('neg', 'pos'))
        >>> list(sentences)
        [('a fine film', 1), ('a dull film', 0)]
    """

    texts: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    rows: tuple[int, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        texts = check_items("texts", self.texts, "n strings")
        names = check_items("classes", self.classes, "a sequence of strings")
        classes = clean_labels("classes", [check_text("classes", name) for name in names])
        if len(set(classes)) < len(classes):
            raise InputError("classes", got=tuple(classes), expected="different names")
        labels = check_items("labels", self.labels, "n indices of classes")
        if len(labels) != len(texts):
            raise InputError("labels", got=f"{len(labels)}", expected=f"{len(texts)}, one per text")
        wrong = [label for label in labels if not is_integer(label) or not 0 <= label < len(classes)]
        if wrong:
            raise InputError("labels", got=repr(wrong[0]), expected=f"indices of the classes {tuple(classes)}")
        rows = check_items("rows", self.rows, "n row numbers") or range(1, len(texts) + 1)
        columns = {
            "texts": check_texts("texts", texts, len(texts)),
            "labels": labels,
            "classes": classes,
            "rows": check_rows(rows, len(texts)),
        }
        for name, column in columns.items():
            object.__setattr__(self, name, tuple(column))

    @classmethod
    def of(cls, texts: Sequence[str], labels: Any, *, rows: Sequence[int] = ()) -> LabelledTexts:
        """Create from labels of any kind; the classes are the sorted labels, as text.

        White space around labels is removed; 1, 1.0 and "1.0" are one class.

        Args:
            texts: the n sentences, in a list, array or column.
            labels: n labels: strings, numbers or booleans.
            rows: n row numbers; default: 1 to n.

        Raises:
            InputError: as for the class, or a label is blank or missing (None, NaN, "nan").
        """
        texts = check_items("texts", texts, "n strings")
        rows = check_items("rows", rows, "n row numbers")
        place = (lambda index: f"labels, row {rows[index]}") if len(rows) == len(texts) else None
        names, notes = label_names("labels", labels, place)
        if len(names) != len(texts):
            raise InputError("labels", got=len(names), expected=f"{len(texts)}, one per text")
        classes = tuple(sorted(set(names)))
        index = {name: place for place, name in enumerate(classes)}
        return cls(tuple(texts), tuple(index[name] for name in names), classes, tuple(rows), notes)

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> tuple[str, int]:
        return self.texts[index], self.labels[index]

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return zip(self.texts, self.labels, strict=True)

    def select(self, indices: Sequence[int]) -> LabelledTexts:
        """Return the sentences with these indices, in this order.

        Args:
            indices: integers.

        Raises:
            InputError: an index is no integer, or out of range.
        """
        indices = check_items("indices", indices, "a sequence of integers")
        wrong = [index for index in indices if not is_integer(index) or not -len(self) <= index < len(self)]
        if wrong:
            raise InputError(
                "indices",
                got=repr(wrong[0]),
                expected=f"integers below {len(self)}",
                remedy="Pass numpy.flatnonzero(mask)." if isinstance(wrong[0], bool) else None,
            )
        columns = (tuple(column[i] for i in indices) for column in (self.texts, self.labels, self.rows))
        texts, labels, rows = columns
        return LabelledTexts(texts, labels, self.classes, rows)

    def class_names(self) -> list[str]:
        """Return the class name of each sentence."""
        return [self.classes[label] for label in self.labels]


def split_sentences(
    sentences: LabelledTexts, train_size: int, validation_size: int, *, seed: int = 0
) -> tuple[LabelledTexts, LabelledTexts]:
    """Shuffle the sentences and return a training part and a validation part without common texts.

    Texts are equal if they are after Unicode normalisation and up to white space. Of rows with equal text and label the
    first is kept. Rows with equal text and different labels are all kept, in the same part.

    Args:
        sentences: the sentences.
        train_size: size of the training part.
        validation_size: size of the validation part.
        seed: seed of the shuffle.

    Raises:
        InputError: there are too few distinct sentences, or one part has sentences of one class only.

    Example:
        >>> sentences = LabelledTexts.of([f"sentence {i}" for i in range(10)], [i % 2 for i in range(10)])
        >>> train, validation = split_sentences(sentences, 6, 4)
        >>> len(train), len(validation), set(train.texts) & set(validation.texts)
        (6, 4, set())
    """
    check_labelled_texts("sentences", sentences)
    for name, size in (("train_size", train_size), ("validation_size", validation_size)):
        check_integer(name, size, minimum=0)
    check_seed(seed)
    distinct = distinct_texts(sentences)
    if train_size + validation_size > len(distinct):
        raise InputError(
            "train_size, validation_size",
            got=f"{train_size} and {validation_size}",
            expected=f"positive sizes with a sum of at most {len(distinct)}, the number of distinct sentences",
        )
    groups: dict[str, list[int]] = {}
    for index in distinct:
        groups.setdefault(normalised_text(sentences.texts[index]), []).append(index)
    shuffled = list(groups.values())
    random.Random(seed).shuffle(shuffled)
    chosen: tuple[list[int], list[int]] = ([], [])
    for group in shuffled:
        for part_of, size in zip(chosen, (train_size, validation_size), strict=True):
            if len(part_of) + len(group) <= size:
                part_of += group
                break
    train, validation = (sentences.select(part_of) for part_of in chosen)
    if len(train) < train_size or len(validation) < validation_size:
        raise InputError(
            "train_size, validation_size",
            got=f"{train_size} and {validation_size}, which {counted(len(distinct), 'row')} cannot fill",
            expected="sizes that keep rows with equal texts and different labels together",
        )
    for name, part in (("train_size", train), ("validation_size", validation)):
        if len(set(part.labels)) < 2:
            raise InputError(
                name,
                got=f"{counted(len(part), 'sentence')} of one class only",
                expected="sentences of at least two classes in each part",
                remedy=f"Raise {name} or pass another seed.",
            )
    return train, validation


def check_labelled_texts(name: str, sentences: object) -> None:
    """Raise unless an argument is of the class ``LabelledTexts``."""
    if not isinstance(sentences, LabelledTexts):
        got, remedy = type(sentences).__name__, "Create them with LabelledTexts.of(texts, labels)."
        raise InputError(name, got=got, expected="LabelledTexts", remedy=remedy)


def distinct_texts(sentences: LabelledTexts) -> list[int]:
    """Return the index of the first sentence of each pair of text and label."""
    first: dict[tuple[str, int], int] = {}
    for index, (text, label) in enumerate(sentences):
        first.setdefault((normalised_text(text), label), index)
    return list(first.values())


def describe_duplicates(sentences: LabelledTexts) -> str:
    """Return one line about repeated rows and rows with equal texts and different labels; empty if there are none.

    Example:
        >>> describe_duplicates(LabelledTexts.of(["a film", "a  film", "a film", "C#"], ["x", "x", "y", "y"]))
        '1 repeated row dropped (row 2); 1 text with different labels kept (row 1)'
    """
    distinct = distinct_texts(sentences)
    kept = set(distinct)
    repeated = [row for index, row in enumerate(sentences.rows) if index not in kept]
    rows: dict[str, list[int]] = {}
    for index in distinct:
        rows.setdefault(normalised_text(sentences.texts[index]), []).append(sentences.rows[index])
    conflicts = [group[0] for group in rows.values() if len(group) > 1]
    parts = []
    for found, name, state in (
        (repeated, "repeated row", "dropped"),
        (conflicts, "text", "with different labels kept"),
    ):
        if found:
            first = ", ".join(map(str, found[:5])) + (" ..." if len(found) > 5 else "")
            parts.append(f"{counted(len(found), name)} {state} ({'row' if len(found) == 1 else 'rows'} {first})")
    return "; ".join(parts)


def check_classes(name: str, sentences: LabelledTexts, classes: Sequence[str]) -> None:
    """Raise, with the row in the user's file, if a label is none of the classes of the training set."""
    unknown = [
        (row, label) for row, label in zip(sentences.rows, sentences.class_names(), strict=True) if label not in classes
    ]
    if unknown:
        row, label = unknown[0]
        more = f", and {counted(len(unknown) - 1, 'more unknown label')}" if len(unknown) > 1 else ""
        raise InputError(
            f"{name}, row {row}", got=f"label {label!r}{more}", expected=f"one of the classes {shown_classes(classes)}"
        )


def normalised_text(text: str) -> str:
    """Apply Unicode normalisation (NFC) and replace runs of white space by one blank."""
    return unicodedata.normalize("NFC", " ".join(text.split()))
