"""What a low-rank update does: which directions it shares with another one, and how it relates to the weights it is added to.

Hu et al. 2021 (arXiv 2106.09685), sections 7.2 and 7.3, appendices G and H. Plain arrays in, plain arrays out.
"""

from __future__ import annotations
