"""Whether the model hub can be reached."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit

import huggingface_hub


def in_reach() -> bool:
    """Whether the hub's host answers at all: the client itself would try for half a minute."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True  # only the client knows the way
    address = urlsplit(huggingface_hub.constants.ENDPOINT)
    try:
        socket.create_connection((address.hostname or "", address.port or 443), timeout=5).close()
    except OSError:
        return False
    return True
