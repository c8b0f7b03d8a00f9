"""A WebSocket chat as a Scriptling script writes it: `actorbus run examples/scriptling_chat.py`, then ws://127.0.0.1:8000/chat."""

# In a script of Scriptling's own this line is `import scriptling.runtime as runtime`.
from adapters.scriptling import runtime

clients: list[runtime.WebSocketClient] = []  # of all connections: each handler runs on a thread of its own, and they share the module


@runtime.http.websocket("/chat")
def chat(client: runtime.WebSocketClient) -> None:
    clients.append(client)
    client.send("Welcome to the chat!")
    try:
        while client.connected():
            msg = client.receive(timeout=60)
            if msg:
                # A copy, because the handler of somebody who leaves shortens the list meanwhile, and the loop would skip the next one.
                for other in clients.copy():
                    if other.connected():
                        other.send(msg)
    finally:
        clients.remove(client)
