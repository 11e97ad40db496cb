"""Rules, delivery and the running service: the path of a message from the broker's hooks to the answer of a sink.

The layers of its packages, from `errors` up to `cli`, are listed in pyproject.toml and checked; README.md beside this
file has the functions, events and settings.
"""
