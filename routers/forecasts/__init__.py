"""How long a request would take, by the engine's profile."""
