"""Programs that an engine's own Python runs, in a folder of their own: a script's folder comes first on its path."""
