#!/usr/bin/env python3
"""An agent of one's own: Python standard library only, over the loopback ports (docs/ports.md).

    ironclaw agent create snake --image debian --command "/usr/bin/python3 /workspace/python_agent.py"

It receives messages, asks the model in OpenAI's dialect, runs the tool "shell", and appends the answer.
Arguments (for tests outside a sandbox): [QUEUE_HOST:PORT [MODEL_HOST:PORT]].
"""
import http.client
import json
import socket
import struct
import subprocess
import sys


def address(index, default):
    host, _, port = (sys.argv[index] if len(sys.argv) > index else default).rpartition(":")
    return host, int(port)


QUEUE = address(1, "127.0.0.1:8470")
MODEL = address(2, "127.0.0.1:8471")
SHELL = {"type": "function", "function": {"name": "shell", "description": "Runs a command line.",
         "parameters": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}}}


class Queue:
    def __init__(self):
        self.file = socket.create_connection(QUEUE).makefile("rwb")

    def call(self, **request):
        data = json.dumps(request).encode()
        self.file.write(struct.pack(">I", len(data)) + data)
        self.file.flush()
        head = self.file.read(4)
        if len(head) < 4:
            sys.exit("the queue port closed the connection")
        answer = json.loads(self.file.read(struct.unpack(">I", head)[0]))
        if not answer["ok"]:
            raise RuntimeError(answer["error"]["message"])
        return answer


def ask_model(messages, tools):
    connection = http.client.HTTPConnection(*MODEL, timeout=300)
    body = {"model": "default", "messages": messages}
    if tools:
        body["tools"] = tools
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    response = connection.getresponse()
    doc = json.loads(response.read())
    if response.status != 200:
        raise RuntimeError("the model answered %d: %s" % (response.status, doc["error"]["message"]))
    return doc["choices"][0]["message"]


def run(call):
    try:
        command = json.loads(call["function"]["arguments"])["command"]
        done = subprocess.run(["/bin/sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        return done.stdout[:32768].decode(errors="replace")
    except Exception as error:  # the model is told, whatever went wrong
        return "the call failed: %s" % error


def answer(messages, tools):
    for _ in range(16):
        reply = ask_model(messages, tools)
        messages.append(reply)
        if not reply.get("tool_calls"):
            return reply["content"]
        for call in reply["tool_calls"]:
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": run(call)})
    return "I stopped after 16 rounds of tools."


def main():
    queue = Queue()
    config = queue.call(op="config")["config"]
    tools = [SHELL] if "shell" in config["tools"] else []
    messages = [{"role": "system", "content": config["instructions"]}]
    for record in queue.call(op="history", limit=50)["records"]:
        messages.append({"role": "user" if record["direction"] == "in" else "assistant", "content": record["text"]})
    while True:
        message = queue.call(op="recv", wait=30)["message"]
        if not message:
            continue
        messages.append({"role": "user", "content": message["text"]})
        try:
            kind, text = "message", answer(messages, tools)
        except (RuntimeError, OSError, ValueError, KeyError) as error:
            kind, text = "notice", "I cannot answer now: %s" % error
        queue.call(op="append", kind=kind, text=text, consumed=message["seq"])


main()
