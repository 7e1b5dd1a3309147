"""The demo: a made-up street world and the small Senna trained on it. Only tools and tests import it."""
