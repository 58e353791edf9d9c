"""Where keys fall: rings, tables and scores by hash."""
