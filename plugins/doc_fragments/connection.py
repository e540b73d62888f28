# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the connection: of the plugin, and of the dataclass that crosses the mux's socket."""

from __future__ import annotations


class ModuleDocFragment:
    """Options that say which node is meant, who calls AWS, and how."""

    DOCUMENTATION = r"""
options:
  host:
    description:
      - The node to connect to.
      - An instance id (V(i-0123456789abcdef0)), the id of a hybrid node (V(mi-0123456789abcdef0)), C(tag:Key=Value), or else the value of the tag C(Name).
      - A tag that more than one managed node carries is an error, which lists the candidates.
    type: str
    version_added: 0.1.0
    vars:
      - name: inventory_hostname
      - name: ansible_host
      - name: ansible_aws_ssm_instance_id
      - name: ansible_ssm_instance_id
      - name: ansible_ssm_host
    env:
      - name: FLEET_SSM_HOST
    ini:
      - section: fleet_ssm
        key: host
  region:
    description:
      - The region of the node.
      - Unless it is set, E(AWS_REGION), E(AWS_DEFAULT_REGION) and the profile are asked. There is no other default.
    type: str
    version_added: 0.1.0
    vars:
      - name: ansible_aws_ssm_region
      - name: ansible_ssm_region
    env:
      - name: FLEET_SSM_REGION
    ini:
      - section: fleet_ssm
        key: region
  profile:
    description:
      - "The profile of the AWS configuration whose credentials are used: keys, SSO, C(credential_process), roles."
      - Unless it is set, credentials are found as every AWS SDK does. E(AWS_ACCESS_KEY) and E(AWS_SECRET_KEY) stand in for
        E(AWS_ACCESS_KEY_ID) and E(AWS_SECRET_ACCESS_KEY), as in the collection amazon.aws.
    type: str
    version_added: 0.1.0
    vars:
      - name: ansible_aws_ssm_profile
      - name: ansible_ssm_profile
    env:
      - name: FLEET_SSM_PROFILE
    ini:
      - section: fleet_ssm
        key: profile
  access_key:
    description:
      - The access key. Needs O(secret_key), excludes O(profile).
    type: str
    version_added: 0.1.0
    vars:
      - name: ansible_aws_ssm_access_key_id
      - name: ansible_ssm_access_key
    env:
      - name: FLEET_SSM_ACCESS_KEY
    ini:
      - section: fleet_ssm
        key: access_key
  secret_key:
    description:
      - The secret key of O(access_key).
    type: str
    version_added: 0.1.0
    vars:
      - name: ansible_aws_ssm_secret_access_key
      - name: ansible_ssm_secret_key
    env:
      - name: FLEET_SSM_SECRET_KEY
    ini:
      - section: fleet_ssm
        key: secret_key
  session_token:
    description:
      - The session token of temporary O(access_key).
    type: str
    version_added: 0.1.0
    vars:
      - name: ansible_aws_ssm_session_token
      - name: ansible_ssm_session_token
    env:
      - name: FLEET_SSM_SESSION_TOKEN
    ini:
      - section: fleet_ssm
        key: session_token
  role_arn:
    description:
      - A role to assume with these credentials, for this host. It is renewed before it expires.
    type: str
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_role_arn
    env:
      - name: FLEET_SSM_ROLE_ARN
    ini:
      - section: fleet_ssm
        key: role_arn
  external_id:
    description:
      - The external id that the trust policy of O(role_arn) demands.
    type: str
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_external_id
    env:
      - name: FLEET_SSM_EXTERNAL_ID
    ini:
      - section: fleet_ssm
        key: external_id
  role_session_name:
    description:
      - The session name for O(role_arn), visible in the account's trail.
      - The default is C(fleet-ssm-) and the user's name.
    type: str
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_role_session_name
    env:
      - name: FLEET_SSM_ROLE_SESSION_NAME
    ini:
      - section: fleet_ssm
        key: role_session_name
  endpoint_url:
    description:
      - The URL of the Systems Manager endpoint, if not AWS's own. It is used for no other service.
    type: str
    version_added: 0.1.0
    vars:
      - name: ansible_aws_ssm_endpoint_url
      - name: ansible_ssm_endpoint_url
    env:
      - name: FLEET_SSM_ENDPOINT_URL
    ini:
      - section: fleet_ssm
        key: endpoint_url
  sts_endpoint_url:
    description:
      - The URL of the STS endpoint, for O(role_arn).
    type: str
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_sts_endpoint_url
    env:
      - name: FLEET_SSM_STS_ENDPOINT_URL
    ini:
      - section: fleet_ssm
        key: sts_endpoint_url
  ec2_endpoint_url:
    description:
      - The URL of the EC2 endpoint, which is asked why a node cannot be reached.
    type: str
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_ec2_endpoint_url
    env:
      - name: FLEET_SSM_EC2_ENDPOINT_URL
    ini:
      - section: fleet_ssm
        key: ec2_endpoint_url
  kms_endpoint_url:
    description:
      - The URL of the KMS endpoint, for sessions that are encrypted with a key of yours.
    type: str
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_kms_endpoint_url
    env:
      - name: FLEET_SSM_KMS_ENDPOINT_URL
    ini:
      - section: fleet_ssm
        key: kms_endpoint_url
  use_fips:
    description:
      - Use FIPS endpoints. Unless it is set, E(AWS_USE_FIPS_ENDPOINT) and the profile decide.
    type: bool
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_use_fips
    env:
      - name: FLEET_SSM_USE_FIPS
    ini:
      - section: fleet_ssm
        key: use_fips
  use_dualstack:
    description:
      - Use dual-stack endpoints. Unless it is set, E(AWS_USE_DUALSTACK_ENDPOINT) and the profile decide.
    type: bool
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_use_dualstack
    env:
      - name: FLEET_SSM_USE_DUALSTACK
    ini:
      - section: fleet_ssm
        key: use_dualstack
  ca_bundle:
    description:
      - A file of CA certificates to trust for endpoints and data channels.
      - Unless it is set, E(AWS_CA_BUNDLE), E(REQUESTS_CA_BUNDLE) and the profile are asked.
    type: path
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_ca_bundle
    env:
      - name: FLEET_SSM_CA_BUNDLE
    ini:
      - section: fleet_ssm
        key: ca_bundle
  proxy:
    description:
      - The URL of an HTTP proxy, C(http://user:password@proxy:3128), for endpoints and data channels.
      - Unless it is set, E(HTTPS_PROXY) and E(NO_PROXY) decide.
    type: str
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_proxy
    env:
      - name: FLEET_SSM_PROXY
    ini:
      - section: fleet_ssm
        key: proxy
  document:
    description:
      - The session document.
      - "V(auto) takes the best that exists and is allowed: the collection's own C(FleetSSM-Input) with C(FleetSSM-Output), the public
        C(AWS-StartInteractiveCommand), or the account's default shell document."
      - A document of your own must either take a parameter C(command) (type C(InteractiveCommands)) or start a shell.
    type: str
    default: auto
    version_added: 0.1.0
    vars:
      - name: ansible_aws_ssm_document
      - name: ansible_ssm_document
    env:
      - name: FLEET_SSM_DOCUMENT
    ini:
      - section: fleet_ssm
        key: document
  output_document:
    description:
      - A second session document, of type C(NonInteractiveCommands) with C(separateOutputStream), by which output comes at full speed.
      - With O(document=auto) it follows from the document; the public C(AWS-StartInteractiveCommand) goes with C(AWS-StartNonInteractiveCommand).
      - Where it may not be used, output comes at the speed of a terminal, about 0.6 MB/s.
    type: str
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_output_document
    env:
      - name: FLEET_SSM_OUTPUT_DOCUMENT
    ini:
      - section: fleet_ssm
        key: output_document
  reason:
    description:
      - The reason of the session, which AWS writes into the account's trail; at most 256 characters.
      - The default names the user, the playbook, the play and the task that opened the session.
    type: str
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_reason
    env:
      - name: FLEET_SSM_REASON
    ini:
      - section: fleet_ssm
        key: reason
  run_as:
    description:
      - The user as whom the session must run; another one is an error.
      - V(root) takes the documents C(FleetSSM-RootInput) and C(FleetSSM-RootOutput) with O(document=auto).
      - "The user of a session is determined on the side of AWS: by the document, by Run As in Session Manager's preferences or by the
        tag C(SSMSessionRunAs); else it is C(ssm-user)."
      - C(remote_user) and C(ansible_user) have no effect; the session's real user is what Ansible takes as the remote user.
    type: str
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_run_as
    env:
      - name: FLEET_SSM_RUN_AS
    ini:
      - section: fleet_ssm
        key: run_as
  route:
    description:
      - How commands reach the node.
      - "V(session) is a data channel of Session Manager: interactive speed, no AWS API call in a task."
      - "V(run_command) is Run Command: for nodes where sessions are not allowed, for fleets, and for an audit trail of commands. Each task takes at least
        one C(SendCommand), which up to 50 hosts share that have the same task at the same time. Everything runs as root."
      - V(auto) is V(session). Windows is served by neither; run PowerShell there with the module M(fleet.ssm.run_command).
    type: str
    default: auto
    choices: [auto, session, run_command]
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_route
    env:
      - name: FLEET_SSM_ROUTE
    ini:
      - section: fleet_ssm
        key: route
  python:
    description:
      - The Python interpreter on the node, 3.6 or newer, for the part of this plugin that runs there. It need not be the one that runs modules.
      - Unless it is set, the usual ones are tried.
    type: str
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_python
    env:
      - name: FLEET_SSM_PYTHON
    ini:
      - section: fleet_ssm
        key: python
  warm:
    description:
      - Whether modules may run in a Python interpreter that is kept on the node, which saves most of the time and of the bytes of a task.
      - The interpreter is started as Ansible would start it, by the become plugin if there is one, and forks itself for each module. What a module
        sees is the same as in an interpreter of its own. What is not surely the same is run in the usual way.
      - It needs CPython 3.8 or newer on Linux and O(pipelining).
    type: bool
    default: true
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_warm
    env:
      - name: FLEET_SSM_WARM
    ini:
      - section: fleet_ssm
        key: warm
  silence_timeout:
    description:
      - Seconds without a sign of life from the node after which its connection counts as lost. A command may run as long as it likes.
      - For as long, a node that was connected is waited for when the network is away, before it counts as unreachable. A node that was not is called
        unreachable within ten seconds, unless AWS limits the rate of C(StartSession), which is waited out for up to three minutes.
      - It is not called C(timeout), since Ansible fills an option of that name with its own connection time-out.
    type: int
    default: 60
    version_added: 0.1.0
    vars:
      - name: ansible_aws_ssm_timeout
      - name: ansible_ssm_timeout
      - name: ansible_ssm_silence_timeout
    env:
      - name: FLEET_SSM_SILENCE_TIMEOUT
    ini:
      - section: fleet_ssm
        key: silence_timeout
  connection_timeout:
    description:
      - Seconds in which a session that AWS has started must be ready, counted from its last sign of life, and in which a become plugin must prompt on the node.
    type: int
    default: 30
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_connect_timeout
      - name: ansible_ssm_connection_timeout
    env:
      - name: FLEET_SSM_CONNECTION_TIMEOUT
    ini:
      - section: fleet_ssm
        key: connection_timeout
  control_persist:
    description:
      - Seconds for which sessions, and the process that holds them, stay open after the last use.
    type: int
    default: 60
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_control_persist
    env:
      - name: FLEET_SSM_CONTROL_PERSIST
    ini:
      - section: fleet_ssm
        key: control_persist
  max_sessions:
    description:
      - How many nodes may be connected at once. Of those that are idle, the ones used least recently are left when there are more.
      - Nodes in use are never left for it, so it does not limit C(forks).
      - V(0) means as many as open files allow.
    type: int
    default: 0
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_max_sessions
    env:
      - name: FLEET_SSM_MAX_SESSIONS
    ini:
      - section: fleet_ssm
        key: max_sessions
  control_path_dir:
    description:
      - The folder of the socket of the process that holds the sessions.
      - The socket is in a folder of mode 0700 in it, so it may be one that others use as well, such as C(/tmp).
    type: str
    default: ~/.ansible/cp
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_control_path_dir
    env:
      - name: FLEET_SSM_CONTROL_PATH_DIR
    ini:
      - section: fleet_ssm
        key: control_path_dir
  reconnection_retries:
    description:
      - How often to try again to deliver a command that is known not to have reached the node. How long opening a session is tried depends on time alone,
        see O(silence_timeout).
      - A command that may have started is never started again.
    type: int
    default: 3
    version_added: 0.1.0
    vars:
      - name: ansible_aws_ssm_retries
      - name: ansible_ssm_reconnection_retries
    env:
      - name: FLEET_SSM_RECONNECTION_RETRIES
    ini:
      - section: fleet_ssm
        key: reconnection_retries
  use_tty:
    description:
      - Whether commands run by a become plugin get a controlling terminal. Their streams remain pipes, so output is not changed by it.
      - V(auto) gives it to become plugins that read the password from a terminal, such as C(su) and C(doas); and to C(sudo) once it has
        refused to start a command without one, as sudoers with C(requiretty) demands. V(always) saves that first attempt.
    type: str
    default: auto
    choices: [auto, always, never]
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_use_tty
    env:
      - name: FLEET_SSM_USE_TTY
    ini:
      - section: fleet_ssm
        key: use_tty
  payload_size:
    description:
      - Bytes of payload in one message to the node. What AWS takes beyond the default is not documented.
    type: int
    default: 1024
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_payload_size
    env:
      - name: FLEET_SSM_PAYLOAD_SIZE
    ini:
      - section: fleet_ssm
        key: payload_size
  send_window:
    description:
      - The most messages that may be on their way to the node at once.
    type: int
    default: 2048
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_send_window
    env:
      - name: FLEET_SSM_SEND_WINDOW
    ini:
      - section: fleet_ssm
        key: send_window
  mux_log:
    description:
      - A file to which the process that holds the sessions writes its log, for finding faults. It holds no secrets and no output.
    type: path
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_mux_log
    env:
      - name: FLEET_SSM_MUX_LOG
    ini:
      - section: fleet_ssm
        key: mux_log
  command_document:
    description:
      - The Command document of O(route=run_command).
      - One of your own must take the parameters C(commands) and C(executionTimeout) as the default one does, and run them by a shell as root.
    type: str
    default: AWS-RunShellScript
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_command_document
    env:
      - name: FLEET_SSM_COMMAND_DOCUMENT
    ini:
      - section: fleet_ssm
        key: command_document
  bucket:
    description:
      - "The name of an S3 bucket for O(route=run_command): outputs that AWS's answer does not hold (24,000 characters), and all input (module arguments, files)
        pass through it, by presigned URLs. Each object is deleted after its use."
      - So no input stands in a command's parameters, unless O(expose_secrets) accepts that. Command lines do, and the output of tasks without C(no_log) stands
        in the command's output.
      - The nodes need the way to S3 and C(curl) or Python 3, but no permission. O(route=session) uses no bucket.
    type: str
    version_added: 0.1.0
    vars:
      - name: ansible_aws_ssm_bucket_name
      - name: ansible_ssm_bucket
    env:
      - name: FLEET_SSM_BUCKET
    ini:
      - section: fleet_ssm
        key: bucket
  bucket_prefix:
    description:
      - What the names of all objects in O(bucket) begin with.
    type: str
    default: fleet-ssm
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_bucket_prefix
    env:
      - name: FLEET_SSM_BUCKET_PREFIX
    ini:
      - section: fleet_ssm
        key: bucket_prefix
  bucket_region:
    description:
      - The region of O(bucket).
      - Unless it is set, S3 is asked.
    type: str
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_bucket_region
    env:
      - name: FLEET_SSM_BUCKET_REGION
    ini:
      - section: fleet_ssm
        key: bucket_region
  bucket_endpoint_url:
    description:
      - The URL of the S3 endpoint, if not AWS's own. The nodes must reach it as well.
    type: str
    version_added: 0.1.0
    vars:
      - name: ansible_aws_ssm_bucket_endpoint_url
      - name: ansible_ssm_bucket_endpoint_url
    env:
      - name: FLEET_SSM_BUCKET_ENDPOINT_URL
    ini:
      - section: fleet_ssm
        key: bucket_endpoint_url
  bucket_sse_mode:
    description:
      - The encryption that objects in O(bucket) are to have; the bucket's own unless it is set.
    type: str
    choices: [AES256, 'aws:kms']
    version_added: 0.1.0
    vars:
      - name: ansible_aws_ssm_bucket_sse_mode
      - name: ansible_ssm_bucket_sse_mode
    env:
      - name: FLEET_SSM_BUCKET_SSE_MODE
    ini:
      - section: fleet_ssm
        key: bucket_sse_mode
  bucket_sse_kms_key_id:
    description:
      - The KMS key for O(bucket_sse_mode=aws:kms); else it is ignored.
    type: str
    version_added: 0.1.0
    vars:
      - name: ansible_aws_ssm_bucket_sse_kms_key_id
      - name: ansible_ssm_bucket_sse_kms_key_id
    env:
      - name: FLEET_SSM_BUCKET_SSE_KMS_KEY_ID
    ini:
      - section: fleet_ssm
        key: bucket_sse_kms_key_id
  s3_addressing_style:
    description:
      - How URLs of O(bucket) name it.
    type: str
    default: auto
    choices: [path, virtual, auto]
    version_added: 0.1.0
    vars:
      - name: ansible_aws_ssm_s3_addressing_style
      - name: ansible_ssm_s3_addressing_style
    env:
      - name: FLEET_SSM_S3_ADDRESSING_STYLE
    ini:
      - section: fleet_ssm
        key: s3_addressing_style
  expose_secrets:
    description:
      - Whether whatever a task of O(route=run_command) sends and gets may stand in the parameters and the output of a command, which everyone who may
        C(ssm:ListCommands) can read for 30 days.
      - Else input goes through O(bucket) if there is one, and a task with C(no_log), or with a password for become, is refused without one.
      - It is the faster way, as nothing is transferred by the bucket that has room in a command.
    type: bool
    default: false
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_expose_secrets
    env:
      - name: FLEET_SSM_EXPOSE_SECRETS
    ini:
      - section: fleet_ssm
        key: expose_secrets
  delivery_timeout:
    description:
      - Seconds within which a node must take a command of O(route=run_command); 30 or more. One that is busy with five others takes it later. One that
        has not taken it in time is unreachable, and nothing was run.
    type: int
    default: 120
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_delivery_timeout
    env:
      - name: FLEET_SSM_DELIVERY_TIMEOUT
    ini:
      - section: fleet_ssm
        key: delivery_timeout
  execution_timeout:
    description:
      - Seconds after which the agent ends a command of O(route=run_command), from 5 to 172800.
      - A command that nobody waits for any more is cancelled before that. Only where the process that holds the connections is killed together with its folder
        O(control_path_dir), as with a container, does a command run on for this time.
    type: int
    default: 172800
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_execution_timeout
    env:
      - name: FLEET_SSM_EXECUTION_TIMEOUT
    ini:
      - section: fleet_ssm
        key: execution_timeout
  events_topic:
    description:
      - The ARN of an SNS topic to which an EventBridge rule delivers the events C(EC2 Command Invocation Status-change Notification) of the node's account
        and region. With it, O(route=run_command) hears from a queue of its own when commands end, and asks only every 15 seconds, in case an event is lost.
      - The queue is made by the process that holds the connections, and deleted with it. Without the topic, C(ListCommandInvocations) is asked.
    type: str
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_events_topic
    env:
      - name: FLEET_SSM_EVENTS_TOPIC
    ini:
      - section: fleet_ssm
        key: events_topic
"""

    # What amazon.aws.aws_ssm takes and this connection has no use for, so that moving over is one line.
    AWS_SSM = r"""
options:
  plugin:
    description:
      - Accepted for inventories written for P(amazon.aws.aws_ssm#connection), and ignored. The C(session-manager-plugin) binary is not needed.
    type: str
    version_added: 0.1.0
    vars:
      - name: ansible_aws_ssm_plugin
"""
