"""An OpenAI-compatible endpoint on loopback that is slow, busy, broken and wrong, and counts what
it would bill."""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROMPT_TOKENS, OUTPUT_TOKENS = 700, 90
USD_PER_MILLION_INPUT, USD_PER_MILLION_OUTPUT = 10.0, 100.0
USD_PER_ANSWER = (
    PROMPT_TOKENS * USD_PER_MILLION_INPUT + OUTPUT_TOKENS * USD_PER_MILLION_OUTPUT
) / 1e6

Plan = Callable[[str, int], str]
"""(the label of a scene's first shot, how often it was asked about before) -> what happens: ok,
busy, error, gateway, drop, malformed, wrong_ids, refuse or garbage."""


def words(num_shots: int, entity_id: str = "e1") -> dict:
    """An answer that holds for a scene of so many shots, if `entity_id` is e1."""
    shots = [
        {"shot": n, "text": f"The bear does thing {n}.", "framing": "wide",
         "entity_ids": [entity_id]}
        for n in range(1, num_shots + 1)
    ]  # fmt: skip
    return {"style": "", "entities": [{"id": "e1", "name": "the bear"}], "shots": shots}


class RoughEndpoint:
    """Does what `plan` says after `latency_s`; answers verdicts by `verdict`."""

    def __init__(self, plan: Plan, *, latency_s: float = 0.03) -> None:
        self.plan, self.latency_s = plan, latency_s
        self.num_requests = 0
        self.num_billed = 0
        self.num_verdicts = 0
        self.verdict = lambda texts: [{"shot": n + 1, "fits": True} for n in range(len(texts))]
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()
        rough = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                rough._reply(self, body)

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def billed_usd(self) -> float:
        """What the answers so far cost, lost ones too."""
        return self.num_billed * USD_PER_ANSWER

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def _reply(self, handler: BaseHTTPRequestHandler, body: dict) -> None:
        parts = body["messages"][1]["content"]
        texts = [part["text"] for part in parts if part["type"] == "text"]
        labels = [text for text in texts if re.match(r"Shot \d+,", text)]
        said = [text for text in texts if text.startswith("Said of it")]
        with self._lock:
            self.num_requests += 1
            before = self._asked[labels[0]]
            self._asked[labels[0]] += 1
        what = "ok" if said else self.plan(labels[0], before)
        time.sleep(self.latency_s)
        if what == "busy":
            return _send(handler, 429, {}, {"Retry-After": "0.02"})
        if what == "error":
            return _send(handler, 500, {"error": "boom"})
        with self._lock:
            self.num_billed += 1  # from here on the work was done
            self.num_verdicts += bool(said)
        if what == "drop":
            handler.close_connection = True
            return handler.connection.close()
        if what == "gateway":
            return _send(handler, 504, {"error": "too late"})
        if what == "garbage":
            return _send(handler, 200, ["no", "message"])
        if said:
            return _send(handler, 200, _answer(json.dumps({"shots": self.verdict(said)})))
        content = json.dumps(words(len(labels), "e9" if what == "wrong_ids" else "e1"))
        if what == "malformed":
            content = content[: len(content) // 2]
        _send(handler, 200, _answer(content, refusal=what == "refuse"))


def _answer(content: str, *, refusal: bool = False) -> dict:
    message = {"content": None, "refusal": "I will not."} if refusal else {"content": content}
    usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": OUTPUT_TOKENS}
    return {"choices": [{"message": message}], "usage": usage}


def _send(
    handler: BaseHTTPRequestHandler, status: int, reply: object, headers: dict | None = None
) -> None:
    data = json.dumps(reply).encode()
    handler.send_response(status)
    for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)
