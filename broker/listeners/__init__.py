"""Transports, one a file: sockets in, `broker.client` out."""
