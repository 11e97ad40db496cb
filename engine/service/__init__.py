"""Infrastructure of the process: clock, log, and services with the tasks they own."""
