"""The names of what takes turns in a latency measurement, in records and tables alike."""

BASE, COPY = "base", "copy of the base"
EXECUTIONS = ("eager", "compile", "cuda-graphs")


def merged_name(method: str) -> str:
    """The name of a method's merged variant."""
    return f"{method} merged"
