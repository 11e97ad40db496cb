"""The composition root, which builds a running application from a project."""
