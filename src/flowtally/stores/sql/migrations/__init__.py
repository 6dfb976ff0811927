"""How the tables are made and changed: Alembic's folder. `migrate.py` beside it runs it."""
