"""`scriptling.net`: `unicast`, `multicast`, and `websocket` by its newer name."""
