"""Networks between machines: the switch process on the lab's host, and the script that sets up a machine's cards."""
