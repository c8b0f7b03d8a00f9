"""`scriptling.net`: `unicast` and `multicast`."""
