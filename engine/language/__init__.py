"""The rule language: SQL, functions, templates, events, rule sets, and evaluation outside the broker."""
