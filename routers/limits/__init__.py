"""How much may be under way, and what measures it."""
