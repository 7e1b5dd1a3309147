"""Planning: the vocabulary, the typed sample, the answer parser and the `Planner`.

The modules are imported one by one: `labels` and `sample` serve conversion, which needs neither torch nor a model.
"""
