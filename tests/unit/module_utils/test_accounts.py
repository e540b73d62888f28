# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options to accounts: what is inherited, what is refused and with which words."""

from __future__ import annotations

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.accounts import OptionError, parse_accounts

ROLE = "arn:aws:iam::222222222222:role/FleetOperator"


def test_without_entries_the_file_itself_is_the_account() -> None:
    (account,) = parse_accounts([], {"profile": "hub", "regions": ["eu-central-1", "eu-central-1"], "access_key": None, "role_arn": ROLE})
    assert account.base.profile == "hub"
    assert account.regions == ("eu-central-1",)
    assert account.account_id == "222222222222"


def test_entry_starts_from_credentials_of_the_file() -> None:
    (account,) = parse_accounts([{"role_arn": ROLE}], {"profile": "hub", "external_id": "x", "regions": ["us-east-1"], "role_session_name": "me"})
    assert (account.base.profile, account.external_id, account.regions, account.role_session_name) == ("hub", "x", ("us-east-1",), "me")


def test_own_credentials_replace_those_of_the_file() -> None:
    keys = {"access_key": "AKIA", "secret_key": "s", "session_token": "t"}
    with_profile, with_keys = parse_accounts([{"profile": "other"}, {"aws_access_key_id": "AKIB", "secret_key": "u"}], keys)
    assert with_profile.base.access_key is None
    assert (with_keys.base.access_key, with_keys.base.session_token) == ("AKIB", None)


def test_external_id_of_the_file_is_for_roles_only() -> None:
    plain, role = parse_accounts([{"profile": "a"}, {"role_arn": ROLE}], {"external_id": "x"})
    assert (plain.external_id, role.external_id) == (None, "x")


def test_label_prefers_the_users_word_and_never_shows_a_secret() -> None:
    named, by_role, by_key = parse_accounts(
        [{"name": "prod", "role_arn": ROLE}, {"role_arn": ROLE}, {"access_key": "AKIA", "secret_key": "geheim", "session_token": "streng"}], {}
    )
    assert named.label == "account prod"
    assert by_role.label == "account 222222222222 (role FleetOperator)"
    assert by_key.label == "account of access key AKIA"
    assert "geheim" not in repr(by_key) + repr(by_key.fingerprint())
    assert "streng" not in repr(by_key) + repr(by_key.fingerprint())


def test_fingerprint_tells_identities_and_regions_apart() -> None:
    entries = [{"profile": "a"}, {"profile": "b"}, {"profile": "a", "regions": ["x"]}, {"profile": "a", "role_arn": ROLE}]
    assert len({account.fingerprint() for account in parse_accounts(entries, {})}) == 4


@pytest.mark.parametrize(
    ("entries", "defaults", "words"),
    [
        ([{"role_arn": ROLE}], {"role_arn": ROLE}, ("assume_role_arn", "accounts")),
        ([{"rolearn": ROLE}], {}, ("accounts[1]", "rolearn", "role_arn")),
        (["prod"], {}, ("accounts[1]", "mapping")),
        ({"profile": "a"}, {}, ("accounts", "list")),
        ([{"role_arn": "FleetOperator"}], {}, ("role_arn", "arn:aws:iam::")),
        ([{"profile": "a", "access_key": "A", "secret_key": "s"}], {}, ("accounts[1]", "profile", "access_key")),
        ([{"access_key": "A"}], {}, ("access_key", "secret_key")),
        ([{"profile": "a", "external_id": "x"}], {}, ("external_id", "role_arn")),
        ([{"role_arn": ROLE, "role_session_name": "a b"}], {}, ("role_session_name", "a b")),
        ([{"profile": "a", "regions": ["all", "us-east-1"]}], {}, ("regions", "accounts[1]", "all")),
        ([{"profile": "a", "regions": [1]}], {}, ("regions", "accounts[1]")),
        ([{"profile": ["a"]}], {}, ("profile", "string")),
        ([{"profile": "a"}, {"profile": "a"}], {}, ("twice", "profile a")),
    ],
)
def test_refused(entries: object, defaults: dict[str, object], words: tuple[str, ...]) -> None:
    with pytest.raises(OptionError) as caught:
        parse_accounts(entries, defaults)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_the_same_profile_in_other_regions_is_no_duplicate() -> None:
    assert len(parse_accounts([{"profile": "a", "regions": ["x"]}, {"profile": "a", "regions": ["y"]}], {})) == 2
