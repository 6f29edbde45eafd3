"""Footnotes that say what a column is, told from those that a reader must see wherever the table stands."""

from __future__ import annotations


class Explains(str):
    """A footnote on how something is measured or marked. The docs say it as well; what is odd in this table is no such note."""

    __slots__ = ()
