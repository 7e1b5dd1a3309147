"""Clients of a serving engine, on a server made up of a thread and a module made up of classes."""

from __future__ import annotations

import base64
import io
import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from senna_prune.errors import ServingError
from senna_prune.serving.engines import LocalEngine, ServerEngine

Reply = tuple[int, bytes]


class Server(ThreadingHTTPServer):
    """Answers every prompt by its first number, later ones faster; notes how many it had at a time."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock, self.now, self.most, self.settings = threading.Lock(), 0, 0, list[dict[str, Any]]()
        self.models = b'{"data": [{"id": "decoder"}]}'
        self.reply: Reply | None = None
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: Any) -> None:
        """Silent, too, where a client has given up."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._send(200, self.server.models)

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = torch.load(io.BytesIO(base64.b64decode(content.pop("prompt_embeds"))), weights_only=True)
        number = int(prompt[0, 0])
        with self.server.lock:
            self.server.settings.append(content)
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        time.sleep(0.03 / (1 + number))
        with self.server.lock:
            self.server.now -= 1
        answer = json.dumps({"choices": [{"text": f"plan {number}"}]}).encode()
        self._send(*(self.server.reply or (200, answer)))

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Silent."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def prompts(count: int) -> Iterator[Tensor]:
    return (torch.full((3, 4), float(number)) for number in range(count))


def test_answers_come_in_order_and_few_are_in_flight(server: Server) -> None:
    read = 0

    def counted() -> Iterator[Tensor]:
        nonlocal read
        for prompt in prompts(20):
            read += 1
            yield prompt

    found = ServerEngine(server.url, in_flight=4).answers(counted(), [" a", " b"])
    assert next(found) == "plan 0"
    assert read <= 5
    assert list(found) == [f"plan {number}" for number in range(1, 20)]
    assert 2 <= server.most <= 4
    assert server.settings[0] == {
        "model": "decoder",
        "temperature": 0.0,
        "max_tokens": 32,
        "structured_outputs": {"choice": [" a", " b"]},
    }


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((400, b"prompt_embeds are not enabled"), "400: prompt_embeds are not enabled.* --enable-prompt-embeds"),
        ((500, b""), "the server refuses .500"),
        ((200, b"<html>"), "no JSON"),
        ((200, b"[]"), "no JSON object"),
        ((200, b'{"choices": []}'), "holds no answer"),
    ],
    ids=["not enabled", "broken", "a web page", "a list", "no choice"],
)
def test_a_bad_reply_is_one_line(server: Server, reply: Reply, message: str) -> None:
    engine = ServerEngine(server.url)
    server.reply = reply
    with pytest.raises(ServingError, match=message) as caught:
        list(engine.answers(prompts(3)))
    assert "\n" not in str(caught.value)


def test_a_slow_server_is_named(server: Server) -> None:
    with pytest.raises(ServingError, match=r"no answer within 0\.001 s"):
        list(ServerEngine(server.url, timeout=0.001).answers(prompts(1)))


def test_no_server_and_no_address() -> None:
    with pytest.raises(ServingError, match="no server answers"):
        ServerEngine("http://127.0.0.1:9")
    with pytest.raises(ServingError, match="is no address"):
        ServerEngine("127.0.0.1:8000")
    with pytest.raises(ServingError, match="in_flight: 0"):
        ServerEngine("http://127.0.0.1:9", in_flight=0)


def test_another_server(server: Server) -> None:
    server.models = b'{"data": []}'
    with pytest.raises(ServingError, match="lists no model"):
        ServerEngine(server.url)


class FakeLLM:
    def __init__(self, model: str, **settings: Any) -> None:
        self.settings, self.groups = {"model": model, **settings}, list[int]()

    def generate(self, group: list[dict[str, Tensor]], sampling: dict[str, Any], use_tqdm: bool) -> list[Any]:
        self.groups.append(len(group))
        texts = [f"{int(one['prompt_embeds'][0, 0])} of {sampling.get('structured_outputs')}" for one in group]
        return [SimpleNamespace(outputs=[SimpleNamespace(text=text)]) for text in texts]


def test_vllm_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    params = SimpleNamespace(StructuredOutputsParams=lambda choice: choice)
    fake = SimpleNamespace(LLM=FakeLLM, SamplingParams=lambda **given: given, sampling_params=params)
    monkeypatch.setitem(sys.modules, "vllm", fake)
    engine = LocalEngine("folder", at_once=3, dtype="float32")
    assert engine.llm.settings == {"model": "folder", "enable_prompt_embeds": True, "dtype": "float32"}
    assert list(engine.answers(prompts(7), [" a"])) == [f"{number} of [' a']" for number in range(7)]
    assert engine.llm.groups == [3, 3, 1]
    assert list(engine.answers(prompts(1))) == ["0 of None"]


def test_vllm_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ServingError, match="vLLM is not installed"):
        LocalEngine("folder")
