"""Adapters to models, one file each, found by `config.model_type`: places of visual tokens, evidence of the tower."""
