"""An OpenAI-compatible server on loopback that says what a test tells it to."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Reply = tuple[int, dict, dict]
"""Status, headers, JSON."""


def answer(content, *, tokens=(1000, 100)) -> Reply:
    """A reply whose message has this text."""
    message = {"message": {"role": "assistant", "content": content}}
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    return 200, {}, {"choices": [message], "usage": usage}


class ChatServer:
    """Replies by `script`, a function of the number of the request, from 1; keeps the bodies."""

    def __init__(self, script: Callable[[int], Reply]) -> None:
        self.requests: list[dict] = []
        self.keys: list[str | None] = []
        self.script = script
        chat = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                chat.requests.append(body)
                chat.keys.append(self.headers.get("Authorization"))
                status, headers, reply = chat.script(len(chat.requests))
                data = json.dumps(reply).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
