# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lambda functions that run: Python handlers in processes of their own, with this lab as their AWS.

moto keeps the functions and answers their API; it would run them in containers. Here a function has up to a few warm
processes, as on AWS each for one event at a time, with credentials of the function's role.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import moto.s3.notifications
from moto.awslambda.models import LambdaFunction, lambda_backends
from moto.sqs.models import sqs_backends

_log = logging.getLogger(__name__)

_WORKER = Path(__file__).with_name("function_worker.py")
_AT_ONCE = 8  #: events in work, of all functions
_RETRIES = (1, 2)  #: minutes after which an event that failed is given again (Lambda's documentation of asynchronous invocation)
_ROLE_SECONDS = 3600.0

#: Variables that name the endpoint and credentials of a role (an ARN) of an account, for a number of seconds.
EnvironmentOf = Callable[[str, str, float], Mapping[str, str]]


class Worker:
    """One process of a function."""

    def __init__(self, function: LambdaFunction, folder: Path, environment: Mapping[str, str]) -> None:
        self.code, self.ends = function.code_sha_256, time.monotonic() + _ROLE_SECONDS / 2
        self.configuration = _configuration(function)
        self._log_path = folder / f"log-{uuid.uuid4()}"
        place = folder / "code"
        shutil.rmtree(place, ignore_errors=True)
        with zipfile.ZipFile(io.BytesIO(function.code_bytes)) as code:
            code.extractall(place)
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(_WORKER), function.handler or ""],
                cwd=place,
                env={**inherited, **environment, **function.environment_vars},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        """Whether it can take an event."""
        return self._process.poll() is None

    def run(self, event: Any, context: Mapping[str, Any], seconds: float) -> tuple[dict[str, Any], str]:
        """The worker's answer, and what it wrote."""
        before = self._log_path.stat().st_size
        begun = time.monotonic()
        killer = threading.Timer(seconds, self.kill)
        killer.start()
        try:
            assert self._process.stdin is not None and self._process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps({"event": event, "context": dict(context)}).encode() + b"\n")
                self._process.stdin.flush()
            line = self._process.stdout.readline()
        finally:
            killer.cancel()
        text = _from(self._log_path, before)
        if not line:
            self.kill()
            timed_out = time.monotonic() >= begun + seconds
            why = f"Task timed out after {seconds:.2f} seconds" if timed_out else "Runtime exited without providing a reason"
            return {"error": {"errorMessage": why}}, text
        found: dict[str, Any] = json.loads(line)
        return found, text

    def kill(self) -> None:
        """End the process."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            _close(stream)


class Functions:
    """All functions' processes."""

    def __init__(self, folder: Path, environment_of: EnvironmentOf, minute: Callable[[], float]) -> None:
        self._folder, self._environment_of, self._minute = folder, environment_of, minute
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="function")
        self._idle: dict[str, list[Worker]] = {}
        self._lock = threading.Lock()

    def install(self) -> None:
        """Let moto's functions, in this process, run here."""

        def invoke(function: LambdaFunction, body: str, request_headers: Any, response_headers: Any) -> str | bytes:
            event = json.loads(body) if body else {}
            if (request_headers or {}).get("x-amz-invocation-type") == "Event":
                self._threads.submit(self._run_asynchronously, function, event)
                return b""
            result, failed, logs = self._run_logged(function, event)
            if failed:
                response_headers["x-amz-function-error"] = "Unhandled"
            response_headers["x-amz-log-result"] = base64.b64encode(logs[-4096:].encode()).decode()
            return result.encode()

        def from_bucket(account: str, event: Any, arn: str, _region: str) -> None:
            self.start(arn, event)

        LambdaFunction.invoke = invoke
        moto.s3.notifications._invoke_awslambda = from_bucket

    def start(self, arn: str, event: dict[str, Any]) -> None:
        """Run a function some time soon, as services do that tell it of something."""
        _aws, _partition, _lambda, region, account, _kind, name, *_version = arn.split(":")
        function = lambda_backends[account][region].get_function(name)
        self._threads.submit(self._run_asynchronously, function, event)

    def close(self) -> None:
        """End all processes."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            workers = [worker for idle in self._idle.values() for worker in idle]
            self._idle.clear()
        for worker in workers:
            worker.kill()

    def _run_asynchronously(self, function: LambdaFunction, event: Any, attempt: int = 0) -> None:
        """With what follows a failure: further attempts, then the function's destination for failures."""
        result, failed, _logs = self._run_logged(function, event)
        if not failed:
            return
        configuration = function.event_invoke_config[-1].config if function.event_invoke_config else {}
        if attempt < int(configuration.get("MaximumRetryAttempts", len(_RETRIES))):
            later = threading.Timer(_RETRIES[attempt] * self._minute(), self._submit, (function, event, attempt + 1))
            later.daemon = True
            later.start()
            return
        target = configuration.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination", "")
        if target.startswith("arn:aws:sqs:"):
            _aws, _partition, _sqs, region, account, name = target.split(":")
            text = json.dumps({"requestPayload": event, "responsePayload": json.loads(result)})
            sqs_backends[account][region].send_message(queue_name=name, message_body=text)

    def _submit(self, function: LambdaFunction, event: Any, attempt: int) -> None:
        with contextlib.suppress(RuntimeError):  # the lab has ended
            self._threads.submit(self._run_asynchronously, function, event, attempt)

    def _run_logged(self, function: LambdaFunction, event: Any) -> tuple[str, bool, str]:
        """Result as JSON, whether it failed, and the log; never raises."""
        try:
            return self._run(function, event)
        except Exception as problem:
            _log.exception("function %s", function.function_arn)
            return json.dumps({"errorMessage": str(problem), "errorType": type(problem).__name__}), True, ""

    def _run(self, function: LambdaFunction, event: Any) -> tuple[str, bool, str]:
        request_id = str(uuid.uuid4())
        context = {
            "aws_request_id": request_id,
            "function_name": function.function_name,
            "function_version": str(function.version),
            "invoked_function_arn": function.function_arn,
            "memory_limit_in_mb": str(function.memory_size),
            "log_group_name": function.logs_group_name,
            "log_stream_name": request_id,
            "seconds": function.timeout,
        }
        worker = self._take(function)
        answer, text = worker.run(event, context, float(function.timeout))
        if worker.alive:
            with self._lock:
                self._idle.setdefault(function.function_arn, []).append(worker)
        failed = "error" in answer
        logs = f"START RequestId: {request_id}\n{text}END RequestId: {request_id}\n"
        if failed:
            logs += f"[ERROR] {json.dumps(answer['error'])}\n"
        function.logs_backend.ensure_log_group(function.logs_group_name)
        function.save_logs(logs)
        return json.dumps(answer["error"] if failed else answer.get("result")), failed, logs

    def _take(self, function: LambdaFunction) -> Worker:
        with self._lock:
            idle = self._idle.get(function.function_arn, [])
            while idle:
                worker = idle.pop()
                current = worker.code == function.code_sha_256 and worker.configuration == _configuration(function)
                if worker.alive and current and time.monotonic() < worker.ends:
                    return worker
                worker.kill()
        folder = self._folder / function.function_name / str(uuid.uuid4())
        folder.mkdir(parents=True)
        variables = self._environment_of(function.account_id, function.role, _ROLE_SECONDS)
        return Worker(function, folder, {**variables, "AWS_REGION": function.region, "AWS_DEFAULT_REGION": function.region})


def _configuration(function: LambdaFunction) -> tuple[Any, ...]:
    return (function.handler, function.role, json.dumps(function.environment_vars, sort_keys=True))


def _from(path: Path, position: int) -> str:
    with path.open("rb") as log:
        log.seek(position)
        return log.read().decode("utf-8", "replace")


def _close(stream: IO[bytes] | None) -> None:
    if stream is not None:
        with contextlib.suppress(OSError):
            stream.close()
