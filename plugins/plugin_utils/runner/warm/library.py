# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# mypy: ignore-errors
# ruff: noqa: B905, SIM105, SIM905, UP031
"""What a warm interpreter has ready: the parts of payloads, the code of their files, and what each module imports first.

Node side, the first part of the zygote's program (zygote.py describes it).
"""

import sys

if __name__ == "zygote":
    # The interpreter's first entry in sys.path is the current directory: nothing of ours may come from there.
    PATH = list(sys.path)
    sys.path[:] = [entry for entry in PATH if entry not in ("", ".")]

import _ast
import _imp
import gc
import importlib
import marshal
import os
import struct
import warnings
import zipimport
import zlib

try:
    from _sha2 import sha256  # 3.12 and later
except ImportError:
    from _sha256 import sha256

LENGTH = struct.Struct("!I")
MOST_SOURCE = 6 << 20  # bytes of source compiled, after which a new zygote is better than a bigger one
NOWHERE = "<warm>"
MADV_DONTNEED = 4

# Modules of the standard library whose import does nothing but define things. Those that a payload's files import by
# name are imported before the fork.
PRELOADED = frozenset(
    "__future__ abc argparse array ast atexit base64 binascii bisect bz2 calendar codecs collections collections.abc configparser contextlib copy"
    " copyreg csv ctypes ctypes.util dataclasses datetime decimal difflib dis enum errno fcntl filecmp fnmatch functools getpass glob grp hashlib heapq"
    " hmac importlib.util inspect io ipaddress itertools json keyword linecache locale logging lzma math numbers opcode operator os os.path pathlib pkgutil"
    " platform pprint pty pwd queue random re reprlib resource runpy secrets select selectors shlex shutil signal socket stat string struct subprocess"
    " syslog tarfile tempfile termios textwrap threading time token tokenize traceback tty types typing unicodedata urllib.parse uuid warnings weakref"
    " zipfile zipimport zlib".split()
)


def digest(data):
    return sha256(data).digest()


def unpack(data):
    at = 0
    while at < len(data):
        (length,) = LENGTH.unpack_from(data, at)
        at += LENGTH.size + length
        yield data[at - length : at]


def read(fd, start, end):
    parts = []
    while start < end:
        part = os.pread(fd, end - start, start)
        if not part:
            raise EOFError("the job's data is cut short")
        parts.append(part)
        start += len(part)
    return b"".join(parts)


def nodes(tree):
    """All nodes of a syntax tree, without the ``ast`` module (not every payload imports it)."""
    for name in tree._fields:
        value = getattr(tree, name, None)
        for node in value if isinstance(value, list) else (value,):
            if isinstance(node, _ast.AST):
                yield tree, name, node
                yield from nodes(node)


class Recipe:
    """A payload's constant part: see payload.py and archive.py on the controller."""

    def __init__(self, blob):
        order, *pieces, self.skeleton, hashes = unpack(blob)
        self.members = [hashes[at : at + 32] for at in range(0, len(hashes), 32)]
        self.order = order.decode()
        self.entry = None  # what the wrapper imports from the zip
        text = pieces[0].decode()
        for name, piece in zip(self.order, pieces[1:]):
            # The zip's hole is within quotes, the others are whole expressions.
            text += ("<hole z>" if name == "z" else "'<hole %s>'" % name) + piece.decode()
        self.tree = compile(text, "<stdin>", "exec", _ast.PyCF_ONLY_AST, True)
        self.holes = {}
        for parent, field, node in nodes(self.tree):
            if isinstance(node, _ast.Constant) and isinstance(node.value, str) and node.value.startswith("<hole "):
                self.holes[node.value[6]] = parent, field, node
            elif isinstance(node, _ast.ImportFrom) and (node.module or "").startswith("ansible."):
                self.entry = node.module + "." + node.names[0].name
        if len(self.holes) != 3:
            raise ValueError("holes")
        self.files = {name.decode(): member for (name, _method, _end), member in zip(self.headers(), self.members)}

    def fill(self, expressions):
        """The code of the wrapper with its holes filled, as the interpreter would compile it from its standard input. In the child, once."""
        for name, text in expressions.items():
            parent, field, hole = self.holes[name]
            if name == "z":
                hole.value = text
                continue
            filling = compile(text, "<stdin>", "eval", _ast.PyCF_ONLY_AST, True)
            for _parent, _field, node in nodes(filling):
                if "lineno" in node._attributes:
                    for attribute in ("lineno", "end_lineno", "col_offset", "end_col_offset"):
                        setattr(node, attribute, getattr(hole, attribute))
            value = getattr(parent, field)
            if isinstance(value, list):
                value[value.index(hole)] = filling.body
            else:
                setattr(parent, field, filling.body)
        return compile(self.tree, "<stdin>", "exec", 0, True)

    def headers(self):
        """For each member its name, method, and the end of its local header."""
        at = 0
        for _member in self.members:
            method = self.skeleton[at + 8]
            (length,) = struct.unpack_from("<H", self.skeleton, at + 26)
            yield self.skeleton[at + 30 : at + 30 + length], method, at + 30 + length
            at += 30 + length

    def archive(self, blobs, moment):
        out, at = [], 0
        for member, (_name, _method, end) in zip(self.members, self.headers()):
            out += (self.skeleton[at : at + 10], moment, self.skeleton[at + 14 : end], blobs[member])
            at = end
        for _member in self.members:
            (length,) = struct.unpack_from("<H", self.skeleton, at + 28)
            out += (self.skeleton[at : at + 12], moment, self.skeleton[at + 16 : at + 46 + length])
            at += 46 + length
        return b"".join(out) + self.skeleton[at:]


class Closure:
    """What the wrapper imports before the module's own turn: ansible.module_utils.basic, with all that it needs.

    Imported once here, from an archive without a place in the file system, and then put aside. When the wrapper in a child
    comes to import it from the archive that it has written, it is there, under the names it would have had: see Lender.
    """

    def __init__(self, library, recipe):
        archive = os.memfd_create("zip", os.MFD_CLOEXEC)
        self.place = "/proc/self/fd/%d" % archive
        self.missed = set()
        finders, there = list(sys.meta_path), set(sys.modules)
        sys.meta_path.append(self)
        sys.path.insert(0, self.place)
        try:
            with os.fdopen(archive, "wb") as file, Silence():
                file.write(recipe.archive(library.blobs, bytes(4)))
                file.flush()
                importlib.import_module(recipe.entry)
        finally:
            sys.path.remove(self.place)
            sys.meta_path.remove(self)
            self.modules = {name: sys.modules.pop(name) for name in list(sys.modules) if name not in there and self.ours(name)}
            self.finders = [finder for finder in sys.meta_path if finder not in finders]
            for finder in self.finders:
                sys.meta_path.remove(finder)
            self.importers = {name: sys.path_importer_cache.pop(name) for name in list(sys.path_importer_cache) if name.startswith(self.place)}
            zipimport._zip_directory_cache.pop(self.place, None)
        self.files, self.codes, self.names = {}, [], []
        for module in self.modules.values():
            self.note(module, recipe, library)

    def find_spec(self, name, path=None, target=None):
        """As the last of the finders: what nobody has found."""
        self.missed.add(name.replace(".", "/"))

    def ours(self, name):
        return name.split(".")[0] == "ansible" or self.rest(getattr(sys.modules[name], "__file__", None)) is not None

    def note(self, module, recipe, library):
        """Where the archive's place is written in a module, and what the module was made from."""
        variables, spec = vars(module), getattr(module, "__spec__", None)
        for name, value in variables.items():
            if isinstance(value, (str, os.PathLike)):
                self.name(variables, name, value)
        places = [variables.get("__path__"), getattr(spec, "submodule_search_locations", None)]
        for place in places if places[0] is not places[1] else places[:1]:
            for at, value in enumerate(place or ()):
                self.name(place, at, value)
        if self.rest(getattr(spec, "origin", None)) is not None:
            self.name(vars(spec), "origin", spec.origin)
            self.name(vars(spec), "_cached", spec.cached)
        file = self.rest(variables.get("__file__"))
        if file is not None:
            stored = self.files[file[1:]] = recipe.files[file[1:]]
            code = library.codes.get(library.digests.get(stored))
            if code is not None and code.co_filename == module.__file__:
                self.codes.append((code, file))

    def rest(self, value):
        """What follows the archive's place in a path; None if it is another path or none at all."""
        text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else ""
        return text[len(self.place) :] if text.startswith(self.place) else None

    def name(self, where, name, value):
        rest = self.rest(value)
        if rest is not None:
            self.names.append((where, name, type(value), rest))

    def fits(self, recipe):
        """Would the wrapper of this recipe import the very same?"""
        files = recipe.files
        return all(files.get(name) == member for name, member in self.files.items()) and not any(
            name + suffix in files for name in self.missed for suffix in (".py", ".pyc", "/__init__.py", "/__init__.pyc")
        )

    def move(self, place):
        """In a child: everything as if it had been imported from there."""
        for where, name, kind, rest in self.names:
            where[name] = kind(place + rest)
        for code, rest in self.codes:
            _imp._fix_co_filename(code, place + rest)
        files = zipimport._zip_directory_cache[place] = zipimport._read_directory(place)
        for name, importer in self.importers.items():
            if importer is not None:
                importer.archive = place
                if hasattr(importer, "_files"):  # before 3.13
                    importer._files = files
            sys.path_importer_cache[place + name[len(self.place) :]] = importer
        sys.meta_path += self.finders
        sys.modules.update(self.modules)
        vars(self).clear()


class Silence:
    """Nothing may be printed meanwhile: it would have to be printed in each child."""

    def __enter__(self):
        self.flush()
        self.saved = os.dup(1), os.dup(2)
        self.said = os.memfd_create("said", os.MFD_CLOEXEC)
        os.dup2(self.said, 1)
        os.dup2(self.said, 2)

    def __exit__(self, kind, error, trace):
        self.flush()
        size = os.fstat(self.said).st_size
        for number, fd in enumerate(self.saved, 1):
            os.dup2(fd, number)
            os.close(fd)
        os.close(self.said)
        if size and kind is None:
            raise ImportError("a module says something when it is imported")

    @staticmethod
    def flush():
        sys.stdout.flush()
        sys.stderr.flush()


class Lender:
    """The first finder in a child, until the wrapper imports from its archive: then the closure moves there."""

    def __init__(self, closure):
        self.closure = closure

    def find_spec(self, name, path=None, target=None):
        if name != "ansible":
            return None
        sys.meta_path.remove(self)
        self.closure.move(sys.path[0])
        self.module = sys.modules[name]
        self.spec = self.module.__spec__
        return type(self.spec)(name, self, is_package=True)

    def create_module(self, spec):
        return self.module

    def exec_module(self, module):
        module.__spec__ = self.spec


class Library:
    """Blobs by hash, and the code of each Python file among them. Holds nothing of a single job."""

    def __init__(self, leaving):
        self.leaving = leaving
        self.blobs, self.recipes = {}, {}
        self.codes = {}  # by the hash of the source
        self.digests = {}  # by the hash of the file as it is stored, that of the source; None if it is not kept
        self.closure, self.size = None, 0
        self.compile_source = zipimport._compile_source
        zipimport._compile_source = self.code

    def code(self, path, source):
        """In a child, for zipimport: the code of a file in the payload's zip."""
        code = self.codes.get(digest(source))
        # zipimport asks up to three times for one file. A second file with the same text needs code objects of its own.
        if code is None or code.co_filename not in (NOWHERE, path):
            return self.compile_source(path, source)
        _imp._fix_co_filename(code, path)
        return code

    def recipe(self, key):
        """The recipe, after its files were compiled and imported as far as that can be done for all; None if it does not fit."""
        if key not in self.recipes:
            recipe = Recipe(self.blobs[key])
            if self.closure and not self.closure.fits(recipe):
                return None
            sources = {}
            for member, (name, method, _end) in zip(recipe.members, recipe.headers()):
                if name.endswith(b".py") and member not in self.digests:
                    stored = self.blobs[member]
                    sources[member] = zlib.decompress(stored, -15) if method else stored
            for (member, source), code in zip(sources.items(), apart(self.compiled, sources.values())):
                self.size += len(source)
                self.digests[member] = self.learn(source, code)
            if self.closure is None:
                self.closure = Closure(self, recipe)
            self.recipes[key] = recipe
            gc.collect()
            give_back()
            self.leaving.look()
        return self.recipes[key]

    def compiled(self, source):
        """The code of a file, marshalled; nothing if each run must compile it for itself."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                code = self.compile_source(NOWHERE, source)
            except Exception:
                return b""
        # A warning must be printed in each run, as it would be by an interpreter that compiles anew.
        return b"" if caught or not source else marshal.dumps(code)

    def learn(self, source, marshalled):
        if not marshalled:
            return None
        code = self.codes[digest(source)] = marshal.loads(marshalled)
        for name in code.co_names:
            if name in PRELOADED and name not in sys.modules:
                try:
                    importlib.import_module(name)
                except ImportError:
                    pass
        return digest(source)


def apart(work, items):
    """The bytes that some work gives for each item, done in a child: what a compiler leaves in memory goes with it."""
    results = os.memfd_create("results", os.MFD_CLOEXEC)
    child = os.fork()
    if not child:
        try:
            with os.fdopen(results, "wb") as file:
                for item in items:
                    result = work(item)
                    file.write(LENGTH.pack(len(result)) + result)
        finally:
            os._exit(0)
    try:
        os.waitpid(child, 0)
        return list(unpack(read(results, 0, os.fstat(results).st_size)))
    finally:
        os.close(results)


def give_back():
    """Memory that only compiling and importing needed. ctypes is there because every payload imports it.

    First what the C library would keep. Then the pages of programs and libraries that were run through once: they are read-only
    copies of files, which come back by themselves when they are needed again; children begin without them in any case.
    """
    ctypes = sys.modules.get("ctypes")
    try:
        c_library = ctypes.CDLL(None)
        c_library.malloc_trim(0)
        with open("/proc/self/maps", "rb") as maps:
            for line in maps:
                fields = line.split(None, 5)
                if fields[1] == b"r-xp" and fields[-1].startswith(b"/"):
                    start, end = (int(number, 16) for number in fields[0].split(b"-"))
                    c_library.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_DONTNEED)
    except (OSError, AttributeError):
        pass  # no ctypes, or another C library
