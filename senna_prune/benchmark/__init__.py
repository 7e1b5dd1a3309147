"""How long a plan takes, stage by stage, beside what the hardware could do."""
