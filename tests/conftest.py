"""What all tests share: the real servers, and the rule that CI may not skip them."""

pytest_plugins = ["servers.fixtures"]
