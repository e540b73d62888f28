# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameters of SSM calls checked against the public service model that botocore brings, in the words of AWS."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, ServiceModel, Shape, StructureShape

from .errors import AwsError


@functools.cache
def ssm_model() -> ServiceModel:
    """The public model of SSM."""
    return ServiceModel(Loader().load_service_model("ssm", "service-2"), "ssm")


def parse_parameters(action: str, body: bytes) -> dict[str, Any]:
    """The parameters of a JSON request; raises `AwsError` ValidationException or SerializationException."""
    try:
        parameters = json.loads(body or b"{}")
    except ValueError:
        parameters = None
    if not isinstance(parameters, dict):
        raise AwsError("SerializationException", "The request body is no JSON object")
    model = ssm_model()
    if action in model.operation_names:
        shape = model.operation_model(action).input_shape
        problems = list(_problems(shape, parameters, "")) if shape is not None else []
        if problems:
            plural = "s" if len(problems) > 1 else ""
            raise AwsError(
                "ValidationException",
                f"{len(problems)} validation error{plural} detected: {'; '.join(problems)}",
            )
    return parameters


def _problems(shape: Shape, value: Any, path: str) -> Any:
    if isinstance(shape, StructureShape):
        if not isinstance(value, dict):
            yield _said(value, path, "be an object")
            return
        for name in shape.required_members:
            if value.get(name) is None:
                yield _said(None, _below(path, name), "not be null")
        for name, member in shape.members.items():
            if value.get(name) is not None:
                yield from _problems(member, value[name], _below(path, name))
        return
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if isinstance(shape, ListShape) and isinstance(value, list):
        yield from _limits(len(value), low, high, value, path)
        for number, entry in enumerate(value, 1):
            yield from _problems(shape.member, entry, f"{path}.{number}.member")
    elif isinstance(shape, MapShape) and isinstance(value, dict):
        for key, entry in value.items():
            yield from _problems(shape.value, entry, f"{path}.{key}.member")
    elif shape.type_name == "string" and isinstance(value, str):
        yield from _limits(len(value), low, high, value, path)
        pattern = shape.metadata.get("pattern")
        if pattern and not _fits(pattern, value):
            yield _said(value, path, f"satisfy regular expression pattern: {pattern}")
        choices = getattr(shape, "enum", None)
        if choices and value not in choices:
            yield _said(value, path, f"satisfy enum value set: [{', '.join(choices)}]")
    elif shape.type_name in ("integer", "long") and isinstance(value, int):
        if low is not None and value < low:
            yield _said(value, path, f"have value greater than or equal to {low}")
        if high is not None and value > high:
            yield _said(value, path, f"have value less than or equal to {high}")


def _below(path: str, name: str) -> str:
    """Members are named with a small first letter, unlike in the request."""
    small = name[:1].lower() + name[1:]
    return f"{path}.{small}" if path else small


def _limits(length: int, low: Any, high: Any, value: Any, path: str) -> Any:
    if low is not None and length < int(low):
        yield _said(value, path, f"have length greater than or equal to {low}")
    if high is not None and length > int(high):
        yield _said(value, path, f"have length less than or equal to {high}")


def _said(value: Any, path: str, what: str) -> str:
    shown = "null" if value is None else f"'{value}'"
    prefix = f"Value {shown} at '{path}'" if value is not None else f"Value at '{path}'"
    return f"{prefix} failed to satisfy constraint: Member must {what}"


def _fits(pattern: str, value: str) -> bool:
    try:
        return re.fullmatch(pattern, value, re.DOTALL) is not None
    except re.error:
        return True  # Java's classes such as Unicode categories
