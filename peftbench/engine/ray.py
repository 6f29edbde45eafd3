"""Jobs as tasks of a Ray cluster: `--engine ray` for one on this machine, `--engine ray:ADDRESS` or RAY_ADDRESS for another.

Ray is spoken to by a process of its own (`peftbench.cluster.driver`), in the words of the local engine's worker: Ray ends the process that it is
in when its cluster is lost, and prints as it likes.
"""

from __future__ import annotations

import dataclasses
import importlib.util

from ..errors import UsageError
from .local import LocalEngine
from .protocol import Capacity

DRIVER = "peftbench.cluster.driver"


class RayEngine(LocalEngine):
    """Tasks of Ray.

    Raises:
        UsageError: Ray is not installed.
    """

    GRACE_S = 10.0  # a cluster of its own has processes to end
    LOST = "the Ray cluster was lost: its head does not answer, and the process that spoke to it ended"

    def __init__(self, address: str = "") -> None:
        """`address`: of the cluster's head, as in `10.0.0.1:6379`; empty: as Ray finds one, or one on this machine alone."""
        if importlib.util.find_spec("ray") is None:
            raise UsageError("the engine ray needs Ray: pip install 'peftbench[ray]'")
        super().__init__(DRIVER, address)

    def capacity(self) -> Capacity:
        """Of one node, as a job finds it there."""
        return dataclasses.replace(super().capacity(), apart=True)
