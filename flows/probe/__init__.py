"""`stampede probe`: runs what `reports.probe` asks for, and keeps what it hears. It decides nothing about routers."""
