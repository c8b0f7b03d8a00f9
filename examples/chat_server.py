"""A chat: every line of one client goes to all the others. `python examples/chat_server.py [HOST:PORT]`, then chat_client.py."""

import sys

import bus

ADDRESS = "tcp://" + (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7010")


def on_connect(client: bus.Client) -> None:
    client.state.name = client.remote_address
    client.send("Your first line is your name.")


def on_message(msg: bus.Message, client: bus.Client) -> None:
    if client.state.name == client.remote_address:
        client.state.name = msg.text
        say(client, f"* {msg.text} is here")
    else:
        say(client, f"{client.state.name}: {msg.text}")


def on_disconnect(client: bus.Client, reason: bus.BusError) -> None:
    say(client, f"* {client.state.name} has left")


def say(speaker: bus.Client, line: str) -> None:
    server.send_to_all(line, to=[client for client in server.clients if client is not speaker])
    print(line)


server = bus.serve(ADDRESS, on_message, on_connect=on_connect, on_disconnect=on_disconnect, framing="lines")
print(f"chat on {server.address}; `nc {server.address.replace(':', ' ')}` will do as a client, too")
with server:
    server.wait()
