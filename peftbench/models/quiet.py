"""The library's load reports and progress bars, silenced: what they say is in the loading info."""

from __future__ import annotations

import transformers


class quiet:
    """Silence the library's load report and progress bars: what it says is in the loading info."""

    def __enter__(self) -> None:
        logging = transformers.utils.logging
        self.level = logging.get_verbosity()
        logging.set_verbosity_error()
        logging.disable_progress_bar()

    def __exit__(self, *failure: object) -> None:
        transformers.utils.logging.set_verbosity(self.level)
