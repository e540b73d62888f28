# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection plugin's class: what core asks for, asked of the mux.

It does not stand in the plugin's own file, which core compiles anew for each task.
"""

from __future__ import annotations

import contextlib
import os
import stat
import typing as t

from ansible import context
from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound, AnsibleOptionsError
from ansible.module_utils.common.text.converters import to_bytes, to_native, to_text
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display

from .mux.client import SILENCE_MARGIN, Exchange, MuxClient, MuxError, MuxGone
from .mux.escalation import Escalation, EscalationError
from .mux.protocol import LARGEST_PAYLOAD, ErrorKind, FrameType
from .mux.request import FIELD_NAMES, ConnectionOptions, OptionError, credential_environment, make_reason

display = Display()

_ERRORS: dict[ErrorKind, type[AnsibleError]] = {
    ErrorKind.FAILED: AnsibleError,
    ErrorKind.NOT_FOUND: AnsibleFileNotFound,
    ErrorKind.OPTION: AnsibleOptionsError,
}
"""Everything else means that the node cannot be reached."""

_LEFT_OPEN = (
    "A process that the command has left in the background holds its output open; what it writes there from now on is lost. Give it another"
    " stdout and stderr, such as >/dev/null 2>&1."
)

_SYNCHRONIZE = ("ansible.posix.synchronize", "synchronize")


class Connection(ConnectionBase):  # type: ignore[misc]  # core ships no types
    """One node through the mux."""

    transport = "fleet.ssm.ssm"
    has_pipelining = True
    has_tty = True  # for those become plugins that need one

    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(*args, **kwargs)
        self._client: MuxClient | None = None
        self._connected_by: ConnectionOptions | None = None
        self._options_are_set = False
        """Whether core has set options since they were read."""
        self._facts: dict[str, t.Any] = {}
        self._task_name: str | None = None
        self._no_log = False
        self._play_name: str | None = None

    # What core tells and asks

    def set_options(self, task_keys: t.Any = None, var_options: t.Any = None, direct: t.Any = None) -> None:
        """Also keeps the task's name, for the session's reason, and refuses the one action that can never work."""
        super().set_options(task_keys=task_keys, var_options=var_options, direct=direct)
        self._options_are_set = True
        task = task_keys or {}
        self._task_name = task.get("name")
        self._no_log = bool(task.get("no_log"))
        if str(task.get("action")) in _SYNCHRONIZE and not task.get("delegate_to"):
            raise AnsibleError(
                "synchronize needs rsync over SSH, which fleet.ssm does without: use ansible.builtin.copy, or ansible.builtin.unarchive for many files."
            )

    def _resolve_option_variables(self, variables: t.Any, templar: t.Any) -> t.Any:
        self._play_name = variables.get("ansible_play_name")
        return super()._resolve_option_variables(variables, templar)

    @property
    def default_user(self) -> str | None:  # core reads it, as this plugin has no option remote_user
        """The user that the session really has; core decides by it about become, and about whose home ``~`` is."""
        self._connect()
        user: str = self._facts["user"]
        return user

    @property
    def _host(self) -> str:
        return str(self.get_option("host") or self._play_context.remote_addr)

    # Connecting

    def _connect(self) -> Connection:
        if getattr(self._shell, "SHELL_FAMILY", "sh") == "powershell":
            raise AnsibleError(
                f"{self._host} is a Windows node (ansible_shell_type is powershell), which this connection does not serve:"
                " run PowerShell there by Run Command, with the module fleet.ssm.run_command."
            )
        options = self._connected_by
        if options is None or self._options_are_set:  # core keeps one connection for a loop, whose items may be about different nodes
            options, self._options_are_set = self._options_for_mux(), False
        if options != self._connected_by or (self._client is not None and not self._client.is_usable()):
            self.close()
        self._connected_by = options
        if self._client is None:
            display.vvv(f"ESTABLISH SESSION MANAGER CONNECTION TO: {options.host}", host=self._host)
            try:
                try:
                    self._open(options)
                except MuxGone:  # it was being replaced or stopped; opening runs nothing, so nothing is done twice
                    self._open(options)
            except MuxError as error:
                raise self._translate(error) from None  # it says the same
            display.vvv("CONNECTED AS {user} TO {node} IN {region} BY {document}, SESSION {session}".format(**self._facts), host=self._host)
            self._connected = True
        return self

    def _open(self, options: ConnectionOptions) -> None:
        client = MuxClient.connect(self.get_option("control_path_dir"), patience=options.silence_timeout + options.connection_timeout + SILENCE_MARGIN)
        try:
            self._facts = client.open(options, credential_environment(), self._reason())
        except BaseException:
            client.close()
            raise
        self._client = client

    def _options_for_mux(self) -> ConnectionOptions:
        values = {name: self.get_option(name) for name in FIELD_NAMES}
        values["host"] = self._host
        for name in ("ca_bundle", "mux_log"):
            if values[name]:
                values[name] = os.path.abspath(values[name])
        try:
            return ConnectionOptions.from_mapping(values)
        except OptionError as error:
            raise AnsibleOptionsError(str(error)) from None  # it says the same

    def _reason(self) -> str:
        playbooks = context.CLIARGS.get("args") if context.CLIARGS else None
        playbook = os.path.basename(playbooks[0]) if isinstance(playbooks, tuple | list) and playbooks else None
        return make_reason(self.get_option("reason"), playbook=playbook, play=self._play_name, task=self._task_name)

    def _translate(self, error: MuxError) -> AnsibleError:
        return _ERRORS.get(error.kind, AnsibleConnectionFailure)(str(error))

    # Commands

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Run a command: exit status, stdout and stderr, the bytes as they are."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        client = self._usable_client()
        display.vvv("EXEC what the task's no_log hides" if self._no_log else f"EXEC {to_text(cmd)}", host=self._host)
        become = self.become if sudoable else None
        try:
            warm = bool(self.get_option("warm"))
            tty = self._wants_tty(Escalation.of(become, cmd))
            escalation, (status, stdout, stderr) = self._run(client, cmd, in_data, become, tty, warm)
            if escalation.refused_without_tty(stderr) and not self._interactive:
                raise EscalationError("it demands a terminal (requiretty)")
            if not tty and escalation.refused_without_tty(stderr) and self.get_option("use_tty") == "auto":
                display.vvv("sudo demands a terminal: the command was not started, and is given one", host=self._host)
                self._facts["needs_tty"] = True
                _escalation, (status, stdout, stderr) = self._run(client, cmd, in_data, become, True, warm)
        except MuxError as error:
            self._drop_unless_usable()
            raise self._translate(error) from None  # it says the same
        except EscalationError as error:
            text = str(error) if self._interactive else self._without_answers(become, error)
            self.close()  # ends the command, too
            raise AnsibleError(text) from None  # it says the same
        except BaseException:  # a task's time-out, or Ctrl-C: the command must not live on
            self.close()
            raise
        display.vvv(f"EXEC ended: rc={status}, {len(stdout)} bytes of stdout, {len(stderr)} of stderr", host=self._host)
        return status, stdout, stderr

    @property
    def _interactive(self) -> bool:
        """Whether the route carries input while a command runs. If not, nobody can answer a prompt. Such a route has root's rights: sudo and su do not ask."""
        return bool(self._facts.get("interactive", True))

    def _without_answers(self, become: t.Any, error: EscalationError) -> str:
        user = become.get_option("become_user") or "root"
        return (
            f"{become.name} did not let {self._facts['user']} become {user} on {self._facts['node']}, so nothing was run: {error}. By the route run_command"
            f" nobody can answer it: let {self._facts['user']} become {user} without a password and a terminal there, or use route: session"
        )

    def _wants_tty(self, escalation: Escalation) -> bool:
        choice = self.get_option("use_tty")
        if choice == "auto":
            return escalation.wants_tty or (escalation.active and bool(self._facts.get("needs_tty")))
        return escalation.active and choice == "always"

    def _run(
        self, client: MuxClient, cmd: str, in_data: bytes | None, become: t.Any, tty: bool, warm: bool
    ) -> tuple[Escalation, tuple[int, bytes, bytes]]:
        escalation = Escalation.of(become, cmd)
        payload, streamed = (in_data, None) if in_data and len(in_data) <= LARGEST_PAYLOAD else (b"", in_data)
        exchange = client.exec(
            _for_node(cmd),
            tty=tty,
            takes_input=bool(streamed) or (escalation.asks_password and self._interactive),
            needs_tty=bool(self._facts.get("needs_tty")),
            payload=payload,
            warm=warm,
            secret=escalation.secret(bytes.fromhex(self._facts["salt"])),
            tell_start=escalation.blocks_input and self._interactive,
            private=self._no_log,
        )
        try:
            return escalation, self._converse(exchange, escalation, streamed)
        except MuxError as error:
            if error.kind is not ErrorKind.REPEAT:
                raise
            display.vvv(f"no warm interpreter: {error}", host=self._host)
            return self._run(client, cmd, in_data, become, tty, warm=False)

    def _converse(self, exchange: Exchange, escalation: Escalation, in_data: bytes | None) -> tuple[int, bytes, bytes]:
        streams: dict[FrameType, list[bytes]] = {FrameType.STDOUT: [], FrameType.STDERR: [], FrameType.TTY: []}
        input_given = started = answered = False
        while True:
            if not input_given and not (escalation.blocks_input and self._interactive):
                input_given = True
                if in_data:
                    exchange.give(in_data)
                exchange.end_input()
            # Until the node has confirmed the start, it is the connection that is waited for, and the mux says what becomes of that.
            event = exchange.next_event(timeout=self.get_option("connection_timeout") if started and escalation.blocks_input else None)
            if event is None:
                missing = "answer to" if answered else "prompt for"
                raise AnsibleConnectionFailure(f"no {missing} the become password within {self.get_option('connection_timeout')} s")
            kind, content = event
            if kind is FrameType.EXITED:
                for stream, rest in escalation.rest().items():
                    streams[stream].append(rest)
                if escalation.blocks_input and not self._interactive:
                    said = " ".join(to_text(b"".join(streams[FrameType.STDERR])).split())[-300:]
                    raise EscalationError(said or f"it ended with status {content['returncode']}")
                if escalation.blocks_input:  # it never succeeded: what was said at the terminal is the reason
                    streams[FrameType.STDERR].extend(streams[FrameType.TTY])
                    escalation.check_end(b"".join(streams[FrameType.STDERR]))
                if content.get("left_open"):
                    display.warning(f"{self._host}: {_LEFT_OPEN}")
                return content["returncode"], b"".join(streams[FrameType.STDOUT]), b"".join(streams[FrameType.STDERR])
            if kind is FrameType.STARTED:
                started = True
            elif kind is FrameType.NOTE:
                display.vvv(content["text"], host=self._host)
            elif escalation.watching:
                streams[kind].append(escalation.examine(kind, content))
                if (answer := escalation.take_answer()) is not None and self._interactive:
                    answered = True
                    to_tty, password = answer
                    if to_tty:
                        exchange.give_tty(password)
                    else:
                        exchange.give(password)
            else:
                streams[kind] += escalation.held(kind), content

    # Files

    def put_file(self, in_path: str, out_path: str) -> None:
        """Send a file; on the node it appears whole or not at all."""
        super().put_file(in_path, out_path)
        client = self._usable_client()
        display.vvv(f"PUT {in_path} TO {out_path}", host=self._host)
        try:
            with open(to_bytes(in_path, errors="surrogate_or_strict"), "rb") as source, self._transfer():
                size = os.fstat(source.fileno()).st_size
                exchange = client.put(_for_node(out_path), mode=None, size=size, sha256=None, private=self._no_log)
                exchange.give_file(source)
                while exchange.next_event() is not None and not exchange.finished:
                    pass
        except (FileNotFoundError, IsADirectoryError) as error:
            raise AnsibleFileNotFound(f"file or module does not exist: {to_native(in_path)}") from error

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Get a file; here, too, it appears whole or not at all."""
        super().fetch_file(in_path, out_path)
        client = self._usable_client()
        display.vvv(f"FETCH {in_path} TO {out_path}", host=self._host)
        with self._transfer(), _whole_file(os.path.realpath(to_bytes(out_path, errors="surrogate_or_strict"))) as sink:
            exchange = client.get(_for_node(in_path), private=self._no_log)
            while (event := exchange.next_event()) is not None and not exchange.finished:
                if event[0] is FrameType.STDOUT:
                    sink.write(event[1])

    @contextlib.contextmanager
    def _transfer(self) -> t.Iterator[None]:
        """Around the transfer of a file: errors as core knows them, and no half of it goes on."""
        try:
            yield
        except MuxError as error:
            self._drop_unless_usable()
            raise self._translate(error) from None  # it says the same
        except BaseException:
            self.close()
            raise

    # The end

    def reset(self) -> None:
        """Let the next task of any worker get a new session; commands that run on the node keep theirs."""
        self.close()
        try:
            client = MuxClient.connect_if_running(self.get_option("control_path_dir"), patience=SILENCE_MARGIN)
            if client is None:
                display.vvv("no mux runs, so there is nothing to reset", host=self._host)
                return
            try:
                client.ask(FrameType.RESET, options=self._options_for_mux().to_fields(), environment=credential_environment())
            finally:
                client.close()
        except MuxError as error:
            raise self._translate(error) from None  # it says the same

    def close(self) -> None:
        """Leave the mux; what it holds open stays open."""
        client, self._client = self._client, None
        self._facts = {}
        self._connected = False
        if client is not None:
            client.close()

    def _usable_client(self) -> MuxClient:
        self._connect()
        if self._client is None:
            raise AssertionError
        return self._client

    def _drop_unless_usable(self) -> None:
        if self._client is not None and not self._client.is_usable():
            self.close()


def _for_node(text: t.Any) -> str:
    """A command or path as a node can have it."""
    found: str = to_text(text, errors="surrogateescape")
    try:
        if b"\0" not in found.encode("utf-8", "surrogateescape"):
            return found
        what = "a NUL"
    except UnicodeEncodeError as error:
        what = f"U+{ord(found[error.start]):04X}"
    raise AnsibleError(f"{what} is no character that a command or path can hold. Nothing was run.")


def _own_as(fd: int, other: os.stat_result) -> None:
    """Give a file the owner, as far as that may be done, and the mode of another one."""
    with contextlib.suppress(PermissionError):
        os.fchown(fd, other.st_uid, other.st_gid)
    os.fchmod(fd, stat.S_IMODE(other.st_mode))


@contextlib.contextmanager
def _whole_file(path: bytes) -> t.Iterator[t.BinaryIO]:
    """A file to write, which takes the place of another one, its owner and mode, once all is there. What is no file, as a FIFO, is written to itself."""
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as sink:
            yield sink
        return
    partial = path + b".%d.part" % os.getpid()
    try:
        with open(partial, "wb") as sink:
            with contextlib.suppress(FileNotFoundError):
                _own_as(sink.fileno(), os.stat(path))
            yield sink
        os.replace(partial, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
