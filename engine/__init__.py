"""Rules, delivery and the running service: what happens to a message between the broker's hooks and a sink's answer.

The storeys of its rooms, from `errors` up to `cli`, stand in pyproject.toml and are checked; README.md beside this file
has the functions, events and settings.
"""
