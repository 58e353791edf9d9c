"""The metastability probe: which cells to ask for, what the answers mean, and the page that says it. It runs nothing."""
