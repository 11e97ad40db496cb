"""What the `postgresql` sink is made of: types, errors, statements and the table."""
