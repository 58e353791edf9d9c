"""The wall-clock sender: one process, one core, one share of the sessions, over real HTTP."""
