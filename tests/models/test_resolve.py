"""Where models come from and whether they fit: GGUF files, and the memory that arithmetic can tell of."""

from __future__ import annotations
