"""Adapters to models, one file each, found by `config.model_type`: places of visual tokens, scores of the tower."""
