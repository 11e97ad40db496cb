"""How the sink `sqlite` makes statements of rows."""
