# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin against the lab, as `ansible-inventory` runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.inventory.conftest import BOTH, OTHER_ACCOUNT, REGIONS, ROLE, Inventory, Listed
from tests.lab import Lab

EVERYONE = {"web-1", "web-2", "db-1", "win-1", "edge-1", "edge-2", "lost-1"}


def twins(fleet: Lab) -> set[str]:
    return {f"same_{node.node_id}" for node in fleet.nodes() if node.name == "same"}


def test_two_accounts_and_regions(fleet: Lab, inventory: Inventory) -> None:
    keyed_groups = [{"key": "ssm_tags.Role", "prefix": "role"}, {"key": "ssm_region", "prefix": "region"}, {"key": "ssm_account_name", "separator": ""}]
    found = inventory.list({**BOTH, "keyed_groups": keyed_groups, "groups": {"prod": "ssm_tags.Env | default('') == 'prod'"}})
    assert found.hosts.keys() == EVERYONE | twins(fleet)
    assert found.group("managed_nodes") == found.hosts.keys()
    assert found.group("role_web") == {"web-1", "web-2"}
    assert found.group("role_edge") == {"edge-1", "edge-2"}
    assert found.group("region_us_east_1") >= {"web-2", "edge-2", "win-1"}
    assert found.group("two") >= {"db-1", "edge-2"}
    assert found.group("prod") == {"web-1", "db-1", "edge-1"}
    assert "WARNING" not in found.warnings

    db = found.hosts["db-1"]
    assert {name: db[name] for name in db if name.startswith("ansible_")} == {
        "ansible_connection": "fleet.ssm.ssm",
        "ansible_ssm_instance_id": fleet.node("db-1").node_id,
        "ansible_ssm_region": "eu-central-1",
        "ansible_ssm_role_arn": ROLE,
    }
    assert (db["ssm_account_id"], db["ssm_account_name"], db["ssm_state"], db["ssm_ping_status"]) == (OTHER_ACCOUNT, "two", "running", "online")
    assert db["ssm_tags"] == {"Name": "db-1", "Role": "db", "Env": "prod"}
    edge = found.hosts["edge-2"]
    assert edge["ansible_ssm_instance_id"].startswith("mi-")
    assert (edge["ssm_account_id"], edge["ssm_tags"]["Role"], edge["ssm_vpc_id"]) == (OTHER_ACCOUNT, "edge", None)
    assert found.hosts["win-1"]["ansible_shell_type"] == "powershell"
    assert found.hosts["lost-1"]["ssm_ping_status"] == "connection_lost"


def test_as_few_calls_as_there_can_be(fleet: Lab, inventory: Inventory) -> None:
    inventory.list(BOTH)
    # Two accounts, two regions, hybrid nodes in two of the four places.
    assert fleet.requests().counts == {"sts:AssumeRole": 1, "ec2:DescribeInstances": 4, "ssm:DescribeInstanceInformation": 4, "tag:GetResources": 2}


def test_no_secret_anywhere(fleet: Lab, inventory: Inventory, tmp_path: Path) -> None:
    secret = fleet.env()["AWS_SECRET_ACCESS_KEY"]
    options = {
        **BOTH,
        "secret_key": secret,
        "access_key": fleet.env()["AWS_ACCESS_KEY_ID"],
        "cache": True,
        "cache_plugin": "ansible.builtin.jsonfile",
        "cache_connection": str(tmp_path / "cache"),
    }
    found = inventory.list(options)
    files = list((tmp_path / "cache").iterdir())
    assert files
    assert all(secret not in text for text in (found.text, found.warnings, *(path.read_text() for path in files)))


def test_unmanaged_instance_has_no_connection(inventory: Inventory) -> None:
    bare = inventory.list({**BOTH, "include_unmanaged": True}).hosts["bare-1"]
    assert bare["ssm_managed"] is False
    assert not [name for name in bare if name.startswith("ansible_")]


def test_missing_permission_of_one_account_is_a_warning_with_the_action(fleet: Lab, inventory: Inventory) -> None:
    fleet.deny("ec2:DescribeInstances", principal="FleetOperator")
    found = inventory.list(BOTH)
    assert found.hosts.keys() >= {"web-1", "web-2", "edge-1"}
    assert not found.hosts.keys() & {"db-1", "edge-2"}
    assert "account two, regions eu-central-1, us-east-1: ec2:DescribeInstances is not allowed for arn:aws:sts::222222222222" in found.warnings
    assert found.warnings.count("not allowed") == 1


def test_missing_permission_is_an_error_if_strict(fleet: Lab, inventory: Inventory) -> None:
    fleet.deny("ssm:DescribeInstanceInformation", principal="FleetOperator")
    assert "ssm:DescribeInstanceInformation is not allowed" in inventory.refuse({**BOTH, "strict": True})


def test_role_that_cannot_be_assumed(fleet: Lab, inventory: Inventory) -> None:
    fleet.deny("sts:AssumeRole")
    found = inventory.list(BOTH)
    assert "web-1" in found.hosts
    assert f"the role {ROLE} cannot be assumed: sts:AssumeRole is not allowed" in found.warnings
    assert "sts:AssumeRole" in inventory.refuse({"regions": REGIONS, "assume_role_arn": ROLE})


@pytest.mark.slow
def test_external_id(fleet: Lab, inventory: Inventory) -> None:
    role = fleet.create_role(OTHER_ACCOUNT, "Guarded", external_id="sesame")
    account = {"role_arn": role, "regions": ["eu-central-1"]}
    assert "external_id" in inventory.refuse({"accounts": [account]})
    found = inventory.list({"accounts": [{**account, "external_id": "sesame"}]})
    assert found.hosts["db-1"]["ansible_ssm_external_id"] == "sesame"


def test_tags_of_hybrid_nodes_without_permission(fleet: Lab, inventory: Inventory) -> None:
    """A node whose tags are unknown might be one to be left out, so its region is not taken; there is a way without."""
    fleet.deny("tag:GetResources")
    one = {"regions": ["eu-central-1"]}
    assert "set 'hybrid: false'" in inventory.refuse(one)
    assert "web-1" in inventory.list({**one, "hybrid": False}).hosts


def test_cache_serves_the_second_run_without_any_call(fleet: Lab, inventory: Inventory, tmp_path: Path) -> None:
    cached = {**BOTH, "cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(tmp_path / "cache")}
    first = inventory.list(cached)
    fleet.reset_requests()
    second = inventory.list({**cached, "keyed_groups": [{"key": "ssm_tags.Role", "prefix": "role"}]})
    assert fleet.requests().total == 0
    assert second.hosts == first.hosts
    assert second.group("role_db") == {"db-1"}

    assert inventory.list({**cached, "filters": {"tag:Role": "db"}}).hosts.keys() == {"db-1"}
    assert fleet.requests().total > 0
    fleet.reset_requests()
    other_identity = fleet.env(account=OTHER_ACCOUNT)
    assert "web-1" not in inventory.list({**cached, "accounts": []}, **other_identity).hosts
    inventory.run(cached, "--list", "--flush-cache")
    assert fleet.requests().counts["sts:AssumeRole"] == 1


@pytest.mark.slow
def test_cache_is_of_one_region_and_identity(fleet: Lab, inventory: Inventory, tmp_path: Path) -> None:
    """Also where botocore finds them out by itself: in variables of its own, or in files."""
    cached = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(tmp_path / "cache")}
    environment = inventory.controller.environment
    del environment["AWS_REGION"]
    assert "web-1" in inventory.list(cached, AWS_DEFAULT_REGION=REGIONS[0]).hosts
    assert "web-2" in inventory.list(cached, AWS_DEFAULT_REGION=REGIONS[1]).hosts

    for name in ("AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del environment[name]
    config = tmp_path / "config"
    environment["AWS_CONFIG_FILE"] = str(config)
    for account, region, present in ((None, REGIONS[0], "web-1"), (None, REGIONS[1], "web-2"), (OTHER_ACCOUNT, REGIONS[0], "db-1")):
        key = fleet.env(account=account)
        config.write_text(
            f"[default]\nregion={region}\naws_access_key_id={key['AWS_ACCESS_KEY_ID']}\naws_secret_access_key={key['AWS_SECRET_ACCESS_KEY']}\n"
        )
        assert present in inventory.list(cached).hosts
        fleet.reset_requests()
        assert present in inventory.list(cached).hosts
        assert fleet.requests().total == 0


def test_cached_inventory_does_without_the_sdk(inventory: Inventory, tmp_path: Path) -> None:
    """botocore takes longer to import than all the rest takes."""
    cached = {**BOTH, "cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(tmp_path / "cache")}
    first = inventory.list(cached)
    (tmp_path / "none").mkdir()
    for package in ("boto3", "botocore"):
        (tmp_path / "none" / f"{package}.py").write_text("import os\nopen(os.environ['IMPORTED'], 'w').close()\nraise ImportError('none here')\n")
    without = {"PYTHONPATH": str(tmp_path / "none"), "IMPORTED": str(tmp_path / "imported")}
    assert inventory.list(cached, **without).hosts == first.hosts
    assert not (tmp_path / "imported").exists()
    assert "boto3" in inventory.refuse({**cached, "cache": False}, **without)
    assert (tmp_path / "imported").exists()


def test_what_is_incomplete_is_not_cached(fleet: Lab, inventory: Inventory, tmp_path: Path) -> None:
    cached = {**BOTH, "cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(tmp_path / "cache")}
    fleet.deny("ec2:DescribeInstances", principal="FleetOperator")
    assert "db-1" not in inventory.list(cached).hosts
    fleet.clear_permissions()
    assert "db-1" in inventory.list(cached).hosts


def test_names(fleet: Lab, inventory: Inventory) -> None:
    hostnames = ["tag:Trap | lower", {"name": "{{ ssm_tags.Name }}.{{ ssm_region }}", "prefix": "tag:Absent"}]
    found = inventory.list({"regions": REGIONS, "filters": {"tag:Role": "web"}, "hostnames": hostnames})
    # The tag's characters are made safe; as a template it was not run.
    assert found.hosts.keys() == {"_6_7_", "web-2.us-east-1"}


def test_equal_names(fleet: Lab, inventory: Inventory) -> None:
    options = {**BOTH, "filters": {"tag:Role": "twin"}}
    assert inventory.list(options).hosts.keys() == twins(fleet)
    assert "same name by 'hostnames': same" in inventory.refuse({**options, "duplicate_hostnames": "error"})


def test_tags_are_no_templates(inventory: Inventory) -> None:
    path = inventory.write({"regions": ["eu-central-1"], "compose": {"trap": "ssm_tags.Trap"}})
    done = inventory.controller.run("ansible", "-i", str(path), "web-1", "-m", "ansible.builtin.debug", "-a", "msg={{ ssm_tags.Trap }}-{{ trap }}")
    assert "{{ 6 * 7 }}-{{ 6 * 7 }}" in done.stdout, done.stdout + done.stderr


def test_prefix_suffix_and_compose(inventory: Inventory) -> None:
    options = {
        "regions": ["eu-central-1"],
        "filters": {"tag:Name": "web-1"},
        "hostvars_prefix": "",
        "hostvars_suffix": "_of_node",
        "compose": {"where": "region_of_node ~ '/' ~ tags_of_node.Env", "ansible_ssm_region": "'elsewhere'"},
        "keyed_groups": [{"key": "tags_of_node", "prefix": "tag"}, {"key": "where", "prefix": "at"}],
    }
    found = inventory.list(options)
    web = found.hosts["web-1"]
    assert (web["where"], web["ansible_ssm_region"], "ssm_region" in web) == ("eu-central-1/prod", "elsewhere", False)
    assert found.group("tag_Role_web") == found.group("at_eu_central_1_prod") == {"web-1"}


def test_extra_vars(inventory: Inventory) -> None:
    options = {"regions": ["eu-central-1"], "filters": {"tag:Name": "web-1"}, "use_extra_vars": True, "keyed_groups": [{"key": "ssm_region ~ stage"}]}
    done = inventory.run(options, "--graph", "-e", "stage=x")
    assert "@_eu_central_1x:" in done.stdout, done.stderr


def test_extra_vars_that_are_templates(inventory: Inventory) -> None:
    """The value is each host's own, in whatever way an expression comes to it."""
    options = {
        "regions": REGIONS,
        "filters": {"tag:Role": "web"},
        "use_extra_vars": True,
        "compose": {"seen": "wanted", "longer": "wanted ~ '-x'"},
        "keyed_groups": [{"key": "wanted ~ ''", "separator": ""}],
    }
    done = inventory.run(options, "--list", "-e", '{"wanted": "{{ ssm_tags.Name }}"}')
    found = Listed(done.stdout, done.stderr)
    assert {name: (host["seen"], host["longer"]) for name, host in found.hosts.items()} == {"web-1": ("web-1", "web-1-x"), "web-2": ("web-2", "web-2-x")}
    assert found.group("web_1") == {"web-1"}


@pytest.mark.parametrize("compose", [{}, {"unused": "1"}])
def test_expressions_see_the_host_and_what_other_sources_say_of_it(inventory: Inventory, compose: dict[str, str]) -> None:
    hosts = {"web-1": {"rack": "a", "label": "{{ ssm_tags.Name }}"}, "web-2": {"rack": "b", "label": "{{ ssm_tags.Name }}"}}
    inventory.controller.hosts(hosts)
    options = {
        "regions": REGIONS,
        "filters": {"tag:Role": "web"},
        "compose": compose,
        "groups": {"first": "inventory_hostname == 'web-1'"},
        "keyed_groups": [
            {"key": "inventory_hostname", "prefix": "host"},
            {"key": "rack", "prefix": "rack"},
            {"key": "label ~ ''", "prefix": "label"},
            {"key": "'yes' if 'first' in group_names else 'no'", "prefix": "first"},
        ],
    }
    done = inventory.controller.run("ansible-inventory", "-i", str(inventory.controller.inventory), "-i", str(inventory.write(options)), "--list")
    found = Listed(done.stdout, done.stderr)
    for group in ("first", "host_web_1", "rack_a", "label_web_1", "first_yes"):
        assert found.group(group) == {"web-1"}, group


def test_parent_group_is_evaluated_for_its_own_host(inventory: Inventory) -> None:
    """Also where the group's key is not evaluated, but looked up or known."""
    parent = "{{ ssm_tags.Role }}_of_{{ ssm_region }}"
    keyed_groups = [{"key": key, "separator": "", "parent_group": parent} for key in ("ssm_tags.Name", "ssm_tags.Role ~ '-x'")]
    found = inventory.run({"regions": REGIONS, "filters": {"tag:Role": "web"}, "keyed_groups": keyed_groups}, "--graph").stdout
    for number, region in enumerate(("eu_central_1", "us_east_1"), 1):
        assert f"  |--@web_of_{region}:\n  |  |--@web_{number}:\n  |  |  |--web-{number}\n  |  |--@web_x:\n" in found


def test_strict_expressions(inventory: Inventory) -> None:
    options = {"regions": ["eu-central-1"], "keyed_groups": [{"key": "ssm_tags.Absent"}]}
    assert "web-1" in inventory.list(options).hosts
    assert "ssm_tags.Absent" in inventory.refuse({**options, "strict": True})


def test_profiles(fleet: Lab, inventory: Inventory) -> None:
    without_keys = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_REGION": ""}
    by_profile = inventory.list({"profile": f"lab-{OTHER_ACCOUNT}"}, **without_keys).hosts
    assert by_profile["db-1"]["ansible_ssm_profile"] == f"lab-{OTHER_ACCOUNT}"
    # The file's word against keys in the environment.
    assert inventory.list({"profile": f"lab-{OTHER_ACCOUNT}"}).hosts.keys() == by_profile.keys()
    assert "Correct 'profile'" in inventory.refuse({"profile": "nowhere"})


def test_keys_of_the_file_go_with_nothing_of_the_environment(fleet: Lab, inventory: Inventory) -> None:
    key = fleet.env()
    file = {"regions": ["eu-central-1"], "access_key": key["AWS_ACCESS_KEY_ID"], "secret_key": key["AWS_SECRET_ACCESS_KEY"]}
    other = {"AWS_ACCESS_KEY_ID": "ASIAOTHER", "AWS_SECRET_ACCESS_KEY": "x", "AWS_SESSION_TOKEN": "of-another-key"}
    assert "web-1" in inventory.list(file, **other).hosts
    half = {"regions": ["eu-central-1"], "access_key": key["AWS_ACCESS_KEY_ID"]}
    assert "needs both 'access_key' and 'secret_key'" in inventory.refuse(half, **other)


@pytest.mark.slow
def test_no_proxy_by_network(fleet: Lab, inventory: Inventory) -> None:
    """As for the connection; botocore by itself knows only names."""
    with fleet.proxy() as proxy:
        through = {"HTTP_PROXY": proxy.url, "http_proxy": ""}
        assert "web-1" in inventory.list({"regions": ["eu-central-1"]}, **through).hosts
        assert len(proxy.requests) >= 2
        proxy.requests.clear()
        assert "web-1" in inventory.list({"regions": ["eu-central-1"]}, **through, NO_PROXY="10.0.0.0/8,127.0.0.0/8").hosts
        assert not proxy.requests
    assert "HTTPS_PROXY" in inventory.refuse({"regions": ["eu-central-1"]}, HTTP_PROXY="ftp://x")


@pytest.mark.slow
def test_all_regions_and_none(fleet: Lab, inventory: Inventory) -> None:
    found = inventory.list({"regions": ["all"], "max_workers": 4})
    assert found.hosts.keys() >= {"web-1", "web-2"}
    assert fleet.requests().counts["ec2:DescribeRegions"] == 1
    without = {"AWS_REGION": "", "AWS_DEFAULT_REGION": ""}
    assert "Set 'regions'" in inventory.refuse({}, **without)
    assert inventory.list({}).hosts.keys() >= {"web-1"}


def test_no_credentials(inventory: Inventory) -> None:
    without = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CONFIG_FILE"), "")
    assert "no AWS credentials were found" in inventory.refuse({"regions": REGIONS}, **without)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"accounts": [{"rolearn": ROLE}]}, "accounts[1] has unknown keys: rolearn"),
        ({"platforms": ["amiga"]}, "amiga"),
    ],
)
def test_bad_options_are_named(fleet: Lab, inventory: Inventory, options: dict[str, object], words: str) -> None:
    assert words in inventory.refuse({"regions": REGIONS, **options})
    assert fleet.requests().total == 0


def test_throttled_calls_are_repeated(fleet: Lab, inventory: Inventory) -> None:
    with fleet.throttle("ssm:DescribeInstanceInformation", rate=1.0):
        found = inventory.list(BOTH)
    assert found.hosts.keys() == EVERYONE | twins(fleet)


@pytest.mark.parametrize(("name", "taken"), [("ssm.yml", True), ("prod.ssm_nodes.yaml", True), ("prod.yml", False)])
def test_file_names(inventory: Inventory, name: str, taken: bool) -> None:
    assert (inventory.run({"regions": ["eu-central-1"]}, name=name).returncode == 0) is taken


def test_graph(inventory: Inventory) -> None:
    graph = inventory.run({**BOTH, "keyed_groups": [{"key": "ssm_tags.Role", "prefix": "role"}]}, "--graph").stdout
    assert "  |--@role_web:\n  |  |--web-1\n  |  |--web-2\n" in graph
