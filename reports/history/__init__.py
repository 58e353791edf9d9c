"""Nights side by side: what changed from one run to the next, and since when. It reads runs and starts none."""
