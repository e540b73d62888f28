# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One document, step by step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..config import AgentConfig
from ..service import Service
from .conditions import Decision, decide
from .order import Step, join_key
from .result import (
    FAILED,
    IN_PROGRESS,
    NOT_STARTED,
    SKIPPED,
    SUCCESS,
    SUCCESS_AND_REBOOT,
    StepResult,
    cut_stream,
    text_of,
)
from .streams import StepOutput, Upload

EXIT_SUCCESS = 168  #: of a script: this step succeeded, no further ones
EXIT_FAILURE = 169
_ENDED = "Further document steps will be skipped."

Cancelled = Callable[[], bool]


@dataclass(frozen=True)
class Surroundings:
    """What steps need to know beside themselves."""

    config: AgentConfig
    service: Service
    command_id: str
    folder: Path  #: orchestration folder of the document
    outputs: Path  #: where outputs of its steps go, which is the same but for documents in documents
    bucket: str = ""
    key_prefix: str = ""
    upload: Upload | None = None  #: with a bucket
    depth: int = 0  #: of documents in documents
    cancelled: Cancelled = field(default=lambda: False)
    wake: int = -1  #: descriptor that becomes readable when `cancelled` changes


class Plugin(Protocol):
    """Code of one kind of step."""

    def __call__(self, around: Surroundings, step: Step, properties: Any, output: StepOutput) -> None:
        """Do it. `properties` is one set of inputs. Whatever goes wrong is told by `output`."""


class Registry(Protocol):
    """What plugins this node has."""

    def find(self, name: str) -> Plugin | None: ...

    def supported(self, name: str) -> bool:
        """Whether the agent has this plugin for the node's platform."""


def run_steps(
    around: Surroundings, registry: Registry, steps: tuple[Step, ...], before: Mapping[str, StepResult]
) -> Iterator[StepResult]:
    """Run what is to be run and give each step's result as a reply shows it.

    `before` holds results from the time before a reboot: those steps are not run again, but for the one that asked for
    the reboot.
    """
    results: dict[str, StepResult] = {}
    for position, step in enumerate(steps):
        result = before.get(step.step_id) or StepResult(step.step_id, step.plugin)
        results[step.step_id] = result
        if result.status in ("", NOT_STARTED, IN_PROGRESS):
            result.started, result.status = time.time(), NOT_STARTED
        elif result.status == SUCCESS_AND_REBOOT:
            result.status = IN_PROGRESS
        else:
            if result.status == FAILED:
                yield result
            continue
        if around.bucket:
            result.bucket = around.bucket
            result.key_prefix = join_key(around.key_prefix, step.plugin)
        plugin = registry.find(step.plugin)
        decision, words = decide(
            step,
            platform=around.config.platform.lower(),
            here=plugin is not None,
            supported=registry.supported(step.plugin),
            left=_left(steps, position, results),
        )
        if decision is Decision.EXECUTE and plugin is not None:
            _execute(around, plugin, step, result)
        elif decision is Decision.SKIP:
            result.status, result.code, result.output = SKIPPED, 0, words
        else:
            result.status, result.error = FAILED, words
        result.ended = time.time()
        yield result
        if result.status == SUCCESS_AND_REBOOT:
            return


def _execute(around: Surroundings, plugin: Plugin, step: Step, result: StepResult) -> None:
    """Run a step; properties that are a list (schema 1.x) are run one after another, and their results joined."""
    if isinstance(step.properties, list):
        output, name = StepOutput(), ""
        for properties in step.properties:
            part = StepOutput()
            name = _execute_part(around, plugin, step, properties, part)
            output.merge(part)
    else:
        output = StepOutput()
        name = _execute_part(around, plugin, step, step.properties, output)
    result.step_name = name.replace(":", "") if around.bucket else ""
    result.code, result.status = output.code, output.status
    result.output = text_of(output.both)
    stdout, stderr = output.stdout, output.stderr
    on_failure = _word(step.properties, "onFailure")
    addition = ""
    if result.code == EXIT_SUCCESS:
        addition = f"\nStep exited with code 168. Therefore, marking step as succeeded. {_ENDED}"
        result.status, stderr = SUCCESS, b""
        stdout += addition.encode()
    elif result.code == EXIT_FAILURE:
        addition = f"\nStep exited with code 169. Therefore, marking step as Failed. {_ENDED}"
    elif result.status == FAILED and on_failure in ("exit", "successAndExit"):
        addition = f"\nStep was found to have onFailure property. {_ENDED}"
        if on_failure == "successAndExit":
            result.status, result.code = SUCCESS, EXIT_SUCCESS
    if addition and output.code != EXIT_SUCCESS:
        stdout, stderr = stdout + addition.encode(), stderr + addition.encode()
    result.stdout, result.stderr = text_of(cut_stream(stdout)), text_of(cut_stream(stderr))


def _execute_part(around: Surroundings, plugin: Plugin, step: Step, properties: Any, output: StepOutput) -> str:
    """Returns the name under which the outputs are filed: the id of the properties (1.x), or the step's name."""
    name = step.step_id
    if step.plugin == step.step_id:
        name = next((str(value) for key, value in _fields(properties) if key.lower() == "id"), "")
    folder = around.outputs
    for part in (step.plugin, name):
        folder = folder / part.replace(":", "")
    output.open(folder, join_key(around.key_prefix, step.plugin, name), around.upload)
    try:
        if around.cancelled():
            output.cancel()
        else:
            plugin(around, step, properties, output)
    finally:
        output.close()
    return name


def _left(steps: tuple[Step, ...], position: int, results: Mapping[str, StepResult]) -> bool:
    """Whether a step before this one ended the document. A last step that is a finally step runs nevertheless."""
    if _word(steps[position].properties, "finallyStep") == "true" and position == len(steps) - 1:
        return False
    for step in steps[:position]:
        result = results[step.step_id]
        if result.code in (EXIT_SUCCESS, EXIT_FAILURE):
            return True
        if result.status == FAILED and _word(step.properties, "onFailure") == "exit":
            return True
        if result.status == SUCCESS and _word(step.properties, "onSuccess") == "exit":
            return True
    return False


def _fields(properties: Any) -> list[tuple[str, Any]]:
    return list(properties.items()) if isinstance(properties, Mapping) else []


def _word(properties: Any, name: str) -> str:
    """An input that modifies the flow: a string, or true and false as words."""
    value = properties.get(name) if isinstance(properties, Mapping) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else ""
