"""What a pruner drops: which tokens see an object, and how many of them survive to which layer."""
