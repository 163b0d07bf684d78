"""What `context`, `docs` and `re` are in the REPL when the corpus is too big to be a `str`.

A model writes code for a string. `Text` gives it that string's slicing, searching and lines over the mapped corpus,
with the results a `str` would give, and refuses in one line, naming the spelling that works, what would copy gigabytes.
`re` is the standard module whose functions also take a `Text`. Nothing here takes memory with the size of the corpus.

Where it differs from `str`, on purpose:
  - a slice of more than `SLICE` characters is again a `Text`;
  - `splitlines()` and `split()` give lazy sequences (iterate, `len`, index, slice), and lines end at "\\n" only;
  - going through it character by character is an error that names `splitlines()`;
  - only `str(context)` copies it all, and only where its memory can be had; C functions that want a `str` say
    "not lazy text; use a slice, …", since that is the name of its type;
  - regular expressions run in windows (`regex.py` says what that can miss).

A subclass of `str` was rejected: C code would see an empty string and give wrong answers in silence.
Loaded by host and REPL alike: standard library only, and of this package only `corpus`.
"""

from .docs import Docs
from .regex import re
from .text import Text, view

__all__ = ["Docs", "Text", "re", "view"]
