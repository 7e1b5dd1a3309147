"""The task itself, without torch: cameras, plans, commands, prompts, the typed sample, and answers read from text."""
