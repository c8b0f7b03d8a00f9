"""A chat in the browser, page and WebSocket from one process: `python examples/chat_page.py [HOST:PORT]`, and open what it prints."""

import sys

import bus

ADDRESS = "ws://" + (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7080")

PAGE = """<!doctype html>
<meta charset="utf-8"><title>Chat</title>
<ul id="lines"></ul>
<form><input id="line" autofocus autocomplete="off" placeholder="say something"></form>
<script>
const socket = new WebSocket(`ws://${location.host}/chat`);
const input = document.getElementById("line");
const show = text => {
    const item = document.createElement("li");
    item.textContent = text;
    document.getElementById("lines").append(item);
};
socket.onmessage = event => show(event.data);
socket.onclose = event => show(`closed (${event.code})`);
document.forms[0].onsubmit = event => {
    event.preventDefault();
    socket.send(input.value);
    input.value = "";
};
</script>
"""


def page(request: bus.Request) -> bus.Response | None:
    return bus.Response(200, PAGE) if request.path == "/" else None


def chat(client: bus.Session) -> None:
    server.send_to_all(f"* {client.remote_address} is here")
    for msg in client:
        server.send_to_all(f"{client.remote_address}: {msg.text}")
    server.send_to_all(f"* {client.remote_address} has left")


server = bus.serve(ADDRESS, routes={"/chat": chat}, on_request=page)
print(f"chat on http://{server.address}/")
with server:
    server.wait()
