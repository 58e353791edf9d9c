"""Known faults of real gateways: a scenario is put before the real program, and what it does is seen as numbers. What is expected
of them stands in a study file, not here."""
