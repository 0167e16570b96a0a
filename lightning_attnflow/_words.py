"""Numbers with nouns in messages and titles."""

from __future__ import annotations


def counted(number: int, noun: str, form: str = "") -> str:
    """A number with its noun in the singular or plural.

    Args:
        number: the number.
        noun: regular noun, singular, with words before it if need be.
        form: format of the number, such as ",".

    Example:
        >>> counted(1, "row"), counted(0, "class"), counted(2, "entry"), counted(1200, "epoch", ",")
        ('1 row', '0 classes', '2 entries', '1,200 epochs')
    """
    if number != 1:
        if noun.endswith("y"):
            noun = f"{noun[:-1]}ies"
        else:
            noun += "es" if noun.endswith(("s", "x", "sh", "tch")) else "s"
    return f"{number:{form}} {noun}"
