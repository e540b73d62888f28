# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options as a value."""

from __future__ import annotations

import json

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.request import (
    REASON_LIMIT,
    SECRET_FIELDS,
    ConnectionOptions,
    OptionError,
    credential_environment,
    make_reason,
)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"host": ""}, "host"),
        ({"host": "a", "delivery_timeout": 29}, "delivery_timeout"),
        ({"host": "a", "execution_timeout": 172_801}, "execution_timeout"),
        ({"host": "a", "access_key": "AKIA"}, "secret_key"),
        ({"host": "a", "secret_key": "x"}, "access_key"),
        ({"host": "a", "access_key": "AKIA", "secret_key": "x", "profile": "p"}, "profile"),
        ({"host": "a", "external_id": "x"}, "role_arn"),
        ({"host": "a", "silence_timeout": 0}, "silence_timeout"),
        ({"host": "a", "payload_size": 0}, "payload_size"),
        ({"host": "a", "reconnection_retries": -1}, "reconnection_retries"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(values: dict[str, object], named: str) -> None:
    with pytest.raises(OptionError, match=named):
        ConnectionOptions.from_mapping(values)


def test_what_is_unset_has_its_default_and_does_not_cross_the_socket() -> None:
    options = ConnectionOptions.from_mapping({"host": "i-1", "region": None, "connection_timeout": 30, "unknown": 1})
    assert options.to_fields() == {"host": "i-1"}


def test_an_empty_text_is_unset() -> None:
    options = ConnectionOptions.from_mapping({"host": "i-1", "profile": "", "access_key": "AKIA", "secret_key": "x", "session_token": "", "document": ""})
    assert options.to_fields() == {"host": "i-1", "access_key": "AKIA", "secret_key": "x"}
    assert ConnectionOptions.from_mapping({"host": "i-1", "bucket_prefix": ""}).to_fields() == {"host": "i-1", "bucket_prefix": ""}


def test_options_cross_the_socket_unchanged() -> None:
    options = ConnectionOptions(host="web", region="eu-central-1", use_fips=True, external_id="x", role_arn="arn", control_persist=0)
    crossed = ConnectionOptions.from_mapping(json.loads(json.dumps(options.to_fields())))
    assert crossed.to_fields() == options.to_fields()
    assert crossed.control_persist == 0


def test_no_secret_is_shown() -> None:
    options = ConnectionOptions(
        host="web", access_key="AKIA", secret_key="hidden", session_token="hidden", role_arn="arn", external_id="hidden", proxy="http://u:hidden@p"
    )
    assert {"secret_key", "session_token", "external_id", "proxy"} == SECRET_FIELDS
    assert "hidden" not in repr(options)
    assert "web" in repr(options)


def test_only_what_decides_about_credentials_leaves_the_worker() -> None:
    environment = {"AWS_PROFILE": "p", "HTTPS_PROXY": "x", "HOME": "/root", "ANSIBLE_VAULT_PASSWORD": "no", "GITHUB_TOKEN": "no"}
    assert set(credential_environment(environment)) == {"AWS_PROFILE", "HTTPS_PROXY", "HOME"}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"AWS_ACCESS_KEY": "a", "AWS_SECRET_KEY": "s"}, {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s"}),
        ({"AWS_ACCESS_KEY": "a", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "s"}, {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s"}),
        ({"AWS_ACCESS_KEY": "a", "AWS_ACCESS_KEY_ID": "b", "AWS_SECRET_KEY": ""}, {"AWS_ACCESS_KEY_ID": "b"}),
    ],
)
def test_the_names_of_amazon_aws_stand_in_for_those_of_the_sdk(given: dict[str, str], sent: dict[str, str]) -> None:
    assert credential_environment(given) == sent


def test_reason() -> None:
    reason = make_reason(None, playbook="site.yml", play="Web servers", task="Install\nnginx")
    assert "site.yml" in reason and "Web servers" in reason and "Install nginx" in reason
    assert make_reason("ticket 4711") == "ticket 4711"
    assert len(make_reason("x" * 1000)) == REASON_LIMIT
