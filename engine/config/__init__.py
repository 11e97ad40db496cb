"""Configuration: the only package of the engine that opens YAML or reads the environment.

`project.load_project` is the entry point. It reads ``headgate.yaml`` and ``connectors.yaml`` into frozen models and
reports every mistake of both files at once, each with its line, its column and a remedy.
"""
