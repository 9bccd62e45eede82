"""Ciranda: the loop that keeps fine-tuned language models good.

data       what we learn from: sources, checks, immutable versions, corrections from users
evals      what "good" means: the same scorers offline and on live traffic
train      how a version is made: a recipe, a search, jobs
registry   what exists, where it came from, what may go out
deploy     what should run, and the steps to get there: shadow, canary, all, or back
gateway    the OpenAI-compatible door that users come through; every answer is on disk before it is sent
monitor    what really happens: quality, drift, alerts
and back to data. Data goes round; imports do not. Read `ciranda.loop` first.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
