"""Who holds which prefix: indexes of what was sent, or told."""
