"""The demo: a made-up street world and the small Senna trained on it. A tool of the repository; no wheel holds it."""
