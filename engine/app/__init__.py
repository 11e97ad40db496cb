"""The composition root: a project, brought to life."""
