"""Host models: where the visual tokens of a model stand in its prompt, and what its vision tower saw."""
