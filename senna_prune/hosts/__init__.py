"""Host models, one file each, named by `config.model_type`: where their visual tokens stand, what their tower saw."""
