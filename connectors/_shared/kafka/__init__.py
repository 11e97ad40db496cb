"""What the `kafka` sink is made of: messages, errors, and the link to the cluster."""
