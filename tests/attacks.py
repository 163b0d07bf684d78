"""The attacks as a table: a cell, and what must come of it. `attacked.py` runs it, `test_attacks.py` judges it.

Each row is run as a cell of a REPL, after `PREPARED`, which binds what an attacker may know: the paths of a secret, of a
folder that may be written and of sockets that listen, the process id of the host. `says` must be found in what the
model is told; `fate` says whether the same REPL lives on. Rows that the kernel must stop (`STRICT`) are not run at
`soft` and `none`, which are no boundary; all others hold everywhere (`soft` without memory limits is `none`, so bombs
of memory are `LIMITED`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

STRICT, LIMITED, EVERYWHERE = ("process",), ("process", "soft"), ("process", "soft", "none")
BARE = ("process", "none")
"""With ctypes, which `soft` stops by accident rather than by force."""
KEPT, REPLACED, EITHER = "kept", "replaced", "either"


@dataclass(frozen=True, slots=True)
class Attack:
    """`says`: a regular expression, searched in what was printed, the error and the notice of a lost REPL."""

    name: str
    code: str
    says: str
    fate: str = KEPT
    levels: tuple[str, ...] = STRICT
    slow: bool = False
    """Takes some seconds, and another row or test of the default suite is much like it."""


PREPARED = """
import asyncio, ctypes, ctypes.util, gc, os, socket, subprocess, sys, threading, time
SECRET, FOLDER, PATH, ABSTRACT, PORT, HOST = {values}
try:
    libc = ctypes.CDLL(None, use_errno=True)
except PermissionError:  # soft
    libc = None
def number(*pair):
    return pair[os.uname().machine == "aarch64"]
def raw(*call):
    ctypes.set_errno(0)
    libc.syscall.restype = ctypes.c_long
    result = libc.syscall(*(ctypes.c_long(x) if isinstance(x, int) else x for x in call))
    return f"{{result}} errno {{ctypes.get_errno()}}"
def link():
    return next(o for o in gc.get_objects() if type(o).__name__ == "Link")
def repl():
    return next(o for o in gc.get_objects() if type(o).__name__ == "Repl")
def cell():
    return next(o for o in gc.get_objects() if type(o).__name__ == "Subcalls").cell
def done(answer="", draft="", stdout="", error="", rest=30, **fields):
    fields = {{"cell": cell(), "omitted": 0, "variables": [], "quotes": [], "held": False, **fields}}
    link().send("done", fields, (stdout, error, answer, draft))
    time.sleep(rest)
def ask(rest=30, **fields):
    fields = {{"cell": cell(), "query": "llm", "model": None, "prompts": 1, "contexts": [None], "id": 10**6, **fields}}
    link().send("query", fields, ("p",))
    time.sleep(rest)
def torrent(data):
    while True: link()._socket.sendall(data)
"""
"""The first cell of every REPL. `{{` and `}}` are braces: the values are filled in by `str.format`."""

AFTER = "print(6 * 7, len(docs), 'alpha' in context, llm_query('still'), [FINAL, FINAL_VAR, SHOW_VARS, print].count(None), re.findall('al', context), open is not None)"
EXPECTED = "42 2 True llm:still 0 ['al'] True\n"
"""The cell after each attack, with the real names, and what it prints."""

REFUSED = r"PermissionError|Operation not permitted|not allowed|Permission denied|\[Errno 1\]|cannot be opened here"

FILES = {
    "open": "os.open(SECRET, 0)",
    "io.open": "import io\nio.open(SECRET)",
    "FileIO from a class tree": "next(c for c in object.__subclasses__() if c.__name__ == '_IOBase').__subclasses__()\nimport _io\n_io.FileIO(SECRET)",
    "open_code": "import _io\n_io.open_code(SECRET)",
    "open by C": "fd = libc.open(SECRET.encode(), 0)\nif fd < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))\nprint(os.read(fd, 100))",
    "open beside a descriptor": "os.open('passwd', 0, dir_fd=4)",
    "/etc/passwd": "os.open('/etc/passwd', 0)",
    "/etc/shadow": "os.open('/etc/shadow', 0)",
    "ssh key": "from pathlib import Path\nPath('/root/.ssh/id_rsa').read_text()",
    "own environ": "os.open('/proc/self/environ', 0)",
    "own maps": "os.open('/proc/self/maps', 0)",
    "own memory": "os.open('/proc/self/mem', 2)",
    "the host's environ": "os.open(f'/proc/{HOST}/environ', 0)",
    "the host's memory": "os.open(f'/proc/{HOST}/mem', 2)",
    "the host's descriptors": "os.listdir(f'/proc/{HOST}/fd')",
    "list the root": "os.listdir('/')",
    "scan the root": "list(os.scandir('/'))",
    "stat": "os.stat(SECRET)",
    "readlink": "os.readlink('/proc/self/exe')",
    "chdir": "os.chdir('/')",
    "chroot": "os.chroot('/')",
    "getcwd": "os.getcwd()",
    "codecs.open": "import codecs\ncodecs.open(SECRET)",
    "mmap of a file": "import mmap\nmmap.mmap(os.open(SECRET, 0), 0)",
    "corpus for writing": "import mmap\nfor fd in range(3, 128):\n    try: mmap.mmap(fd, 4096, access=mmap.ACCESS_WRITE)\n    except ValueError: pass\n    except OSError as problem:\n        if problem.errno != 19: raise\n    else: print('written', fd)",
}  # fmt: skip
WRITES = {
    "create": "os.open(FOLDER + '/x', os.O_CREAT | os.O_WRONLY)",
    "temporary file": "import tempfile\ntempfile.TemporaryFile(dir=FOLDER)",
    "mkdir": "os.mkdir(FOLDER + '/x')",
    "unlink": "os.unlink(SECRET)",
    "rename": "os.rename(SECRET, FOLDER + '/y')",
    "symlink": "os.symlink(SECRET, FOLDER + '/y')",
    "link": "os.link(SECRET, FOLDER + '/y')",
    "mkfifo": "os.mkfifo(FOLDER + '/y')",
    "mknod": "os.mknod(FOLDER + '/y')",
    "chmod": "os.chmod(SECRET, 0o777)",
    "chown": "os.chown(SECRET, 0, 0)",
    "truncate": "os.truncate(SECRET, 0)",
    "utime": "os.utime(SECRET)",
    "rmtree": "import shutil\nshutil.rmtree(FOLDER)",
    "setxattr": "os.setxattr(SECRET, 'user.x', b'x')",
    "memfd": "os.memfd_create('x')",
    "shared memory": "if libc.shm_open(b'/x', os.O_CREAT | os.O_RDWR, 0o600) < 0: raise OSError(ctypes.get_errno(), 'shm_open')",
    "terminal": "import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSTI, b'x')",
    "truncate the corpus": "for fd in range(3, 128): os.ftruncate(fd, 0)",
}  # fmt: skip
NETWORK = {
    "TCP": "socket.create_connection(('127.0.0.1', PORT), 1)",
    "TCP over IPv6": "socket.socket(socket.AF_INET6).connect(('::1', PORT))",
    "UDP": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))",
    "raw": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
    "packet": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "netlink": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "vsock": "socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)",
    "crypto of the kernel": "socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)",
    "Bluetooth": "socket.socket(31, socket.SOCK_RAW)",
    "Unix socket by path": "socket.socket(socket.AF_UNIX).connect(PATH)",
    "Unix socket, abstract": "socket.socket(socket.AF_UNIX).connect(ABSTRACT)",
    "datagram pair": "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'x', PATH)",
    "sequenced pair": "socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)",
    "pair with an address": "socket.socketpair()[0].sendto(b'x', ABSTRACT)",
    "pair connected anew": "socket.socketpair()[0].connect(PATH)",
    "listen": "a, b = socket.socketpair()\na.bind(ABSTRACT + 'x')",
    "descriptor passed to the host": "socket.send_fds(link()._socket, [b'x'], [0])",
    "http": "import http.client\nhttp.client.HTTPConnection('127.0.0.1', PORT, timeout=1).request('GET', '/')",
    "urllib": "import urllib.request\nurllib.request.urlopen(f'http://127.0.0.1:{PORT}/', timeout=1)",
    "asyncio": "await asyncio.open_connection('127.0.0.1', PORT)",
}  # fmt: skip
PROCESSES = {
    "fork": "os.fork()",
    "fork by C": "pid = libc.fork()\nif pid < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))",
    "fork bomb": "while True: os.fork()",
    "exec": "os.execv('/bin/sh', ['sh'])",
    "exec this Python": "os.execv(sys.executable, ['python', '-c', 'pass'])",
    "spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "subprocess": "subprocess.run(['true'])",
    "shell": "if os.system('true'): raise PermissionError(1, 'system')",
    "popen": "os.popen('true').read()",
    "terminal fork": "libc.forkpty(None, None, None, None) >= 0 or os.fork()",
    "asyncio subprocess": "await asyncio.create_subprocess_exec('true')",
    "kill the host": "os.kill(HOST, 9)",
    "stop the host": "import signal\nos.kill(HOST, signal.SIGSTOP)",
    "kill everybody": "os.kill(-1, 9)",
    "kill the group": "os.killpg(0, 9)",
    "pidfd of the host": "os.pidfd_open(HOST)",
    "owner of a descriptor": "import fcntl\nfcntl.fcntl(3, fcntl.F_SETOWN, HOST)",
    "leave the session": "os.setsid()",
    "change the group": "os.setpgid(0, 0)",
    "change the user": "os.setuid(12345)",
    "raise a limit": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "limits of the host": "import resource\nresource.prlimit(HOST, resource.RLIMIT_NOFILE, (3, 3))",
    "priority": "os.nice(-5)",
    "priority of the host": "os.setpriority(os.PRIO_PROCESS, HOST, 19)",
    "scheduler": "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))",
    "affinity": "os.sched_setaffinity(HOST, {0})",
    "executable memory": "import mmap\nmmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)",
}  # fmt: skip

RAW = {
    "ptrace": ((101, 117), "16, HOST"), "process_vm_readv": ((310, 270), "HOST"),
    "process_vm_writev": ((311, 271), "HOST"), "pidfd_getfd": ((438, 438), ""), "kcmp": ((312, 272), "HOST, HOST"),
    "bpf": ((321, 280), ""), "keyctl": ((250, 219), "0, -3, 1"), "add_key": ((248, 217), ""),
    "request_key": ((249, 218), ""), "io_uring_setup": ((425, 425), "8, (ctypes.c_char * 120)()"),
    "io_uring_enter": ((426, 426), ""), "userfaultfd": ((323, 282), "1"), "perf_event_open": ((298, 241), ""),
    "memfd_create": ((319, 279), "b'x'"), "memfd_secret": ((447, 447), ""), "openat": ((257, 56), "-100, SECRET.encode()"),
    "openat2": ((437, 437), "-100, SECRET.encode()"), "name_to_handle_at": ((303, 264), ""),
    "open_by_handle_at": ((304, 265), ""), "getdents64": ((217, 61), "3"), "statx": ((332, 291), "-100, SECRET.encode()"),
    "mount": ((165, 40), ""), "umount2": ((166, 39), ""), "pivot_root": ((155, 41), ""), "move_mount": ((429, 429), ""),
    "fsopen": ((430, 430), ""), "open_tree": ((428, 428), ""), "unshare": ((272, 97), "0x10000000"),
    "setns": ((308, 268), "3"), "execveat": ((322, 281), "-100, b'/bin/true'"), "clone, a process": ((56, 220), "17"),
    "clone3": ((435, 435), ""), "socket": ((41, 198), "2, 1"), "connect": ((42, 203), "3"), "bind": ((49, 200), "3"),
    "accept": ((43, 202), "3"), "sendmsg": ((46, 211), "3"), "sendmmsg": ((307, 269), "3"), "recvmsg": ((47, 212), "3"),
    "kill": ((62, 129), "HOST, 9"), "tkill": ((200, 130), "HOST, 9"), "tgkill": ((234, 131), "HOST, HOST, 9"),
    "rt_sigqueueinfo": ((129, 138), "HOST, 9"), "pidfd_send_signal": ((424, 424), ""), "setresuid": ((117, 147), ""),
    "setgroups": ((116, 159), ""), "capset": ((126, 91), ""), "personality": ((135, 92), "0"),
    "another filter": ((317, 277), "1"), "dumpable": ((157, 167), "4, 1"), "no death with the host": ((157, 167), "1, 0"),
    "ptracer": ((157, 167), "0x59616D61, -1"), "limit of own memory": ((302, 261), "0, 9, (ctypes.c_long * 2)(-1, -1)"),
    "reboot": ((169, 142), ""), "init_module": ((175, 105), ""), "finit_module": ((313, 273), ""),
    "kexec_load": ((246, 104), ""), "swapon": ((167, 224), ""), "syslog": ((103, 116), "3"),
    "clock_settime": ((227, 112), ""), "sethostname": ((170, 161), "b'x', 1"), "fanotify_init": ((300, 262), ""),
    "inotify_init1": ((294, 26), ""), "shmget": ((29, 194), "0, 4096, 0o1600"), "semget": ((64, 190), "0, 1, 0o1600"),
    "msgget": ((68, 186), "0, 0o1600"), "mq_open": ((240, 180), "b'x', 0o102"), "pwrite64": ((18, 68), "4, b'x', 1, 0"),
    "fallocate": ((285, 47), "4, 3, 0, 100"), "sendfile": ((40, 71), "1, 4, 0, 10"), "splice": ((275, 76), ""),
    "mprotect to run": ((10, 226), "0, 4096, 5"), "pkey_mprotect": ((329, 288), "0, 4096, 5, -1"),
    "timer_create": ((222, 107), ""), "quotactl": ((179, 60), ""), "move_pages": ((279, 239), "HOST"),
    "process_madvise": ((440, 440), ""), "a call of the future": ((600, 600), ""),
}  # fmt: skip
"""Name → numbers on x86-64 and aarch64 (none of these may be allowed), and arguments."""

GADGET = """
address = ctypes.cast(libc.getpid, ctypes.c_void_p).value & ~0xFFF
text = ctypes.string_at(address, 600_000)
at = text.find(b"\\xcd\\x80")
print("no such bytes") if at < 0 else ctypes.CFUNCTYPE(ctypes.c_int)(address + at)()
"""
"""`int 0x80` somewhere in the C library: new machine code cannot be made."""

TABLES = [
    Attack("x32", "raw(0x40000000 + 39)", "forbidden system call", REPLACED),
    Attack("int 0x80", GADGET, "forbidden system call|segmentation|no such bytes", EITHER),
    Attack("vfork", "raw(58)", "-1 errno 1"),
    Attack("modify_ldt", "raw(154, 0)", "-1 errno 1"),
    Attack("iopl", "raw(172, 3)", "-1 errno 1"),
]
"""What only x86-64 has."""

LEAKS = [
    Attack("environment in memory", "env = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, 'environ')\nn = 0\nwhile env[n]: print(env[n].decode().partition('=')[0]); n += 1\nprint('end')", "end", levels=BARE),
    Attack("os.environ", "print(dict(os.environ), os.getenv('RLM_CANARY'))", r"\{\} None", levels=EVERYWHERE),
    Attack("arguments", "print(sys.argv, sys.orig_argv)", "guest.py", levels=EVERYWHERE),
    Attack("inherited descriptors", "for fd in range(3, 128):\n    try: print(fd, len(os.pread(fd, 1 << 20, 0)), 'SECRET' in repr(os.pread(fd, 1 << 20, 0)))\n    except OSError: pass\nprint('end')", "end", levels=EVERYWHERE),
    Attack("module by a path", "link().request('module', {'name': '../../etc/passwd'}).blobs", r"\(\)", levels=EVERYWHERE),
    Attack("module of the host", "link().request('module', {'name': 'rlm_cli.settings'}).blobs", r"\(\)", levels=EVERYWHERE),
    Attack("time zone by a path", "import zoneinfo\nzoneinfo.ZoneInfo('../../../etc/passwd')", "ValueError|ZoneInfoNotFound", levels=EVERYWHERE),
    Attack("time zone by the wire", "link().request('zone', {'name': 'Europe/../../../../etc/passwd'}).blobs", r"\(\)", levels=EVERYWHERE),
    Attack("a line of a file", "import linecache\nprint(repr(linecache.getline(SECRET, 1)))", "''"),
    Attack("SQLite", "import sqlite3\nsqlite3.connect(SECRET).execute('select * from sqlite_master')", "unable to open|not permitted|denied"),
    Attack("SQLite, attached", "import sqlite3\nsqlite3.connect(':memory:').execute('attach ? as x', (FOLDER + '/x.db',))", "unable to open|not permitted|denied"),
    Attack("certificates", "import ssl\nssl.create_default_context().load_verify_locations(SECRET)", "Error"),
    Attack("a shared library", "ctypes.CDLL('/lib/x86_64-linux-gnu/libutil.so.1')", "OSError"),
    Attack("an extension from a path", "import importlib.machinery as m, importlib.util as u\nu.module_from_spec(m.ModuleSpec('x', m.ExtensionFileLoader('x', SECRET), origin=SECRET))", "ImportError"),
    Attack("a path to import from", "sys.path.append(FOLDER)\nimport secret_module", "only the standard library"),
    Attack("XML from outside", "import xml.etree.ElementTree as e\ne.fromstring(f'<!DOCTYPE a [<!ENTITY x SYSTEM \"file://{SECRET}\">]><a>&x;</a>')", "ParseError"),
    Attack("where the host's name is asked", "socket.getaddrinfo('example.com', 80)", "name resolution|not permitted|not known"),
    Attack("look at the parent's signals", "print(raw(number(110, 173)))", "errno 0", levels=BARE),
]  # fmt: skip

BOMBS = [
    Attack("memory in one piece", "x = b'x' * (5 << 30)", "MemoryError", levels=LIMITED),
    Attack("memory in big pieces", "x = []\nwhile True: x.append(bytearray(1 << 20))", "MemoryError", levels=LIMITED),
    Attack("memory in small pieces", "x = []\nwhile True: x.append('abc' * 50)", "MemoryError", levels=LIMITED),
    Attack("memory in a mapping", "x = {}\nfor n in range(10**9): x[n] = str(n)", "MemoryError|limit of a cell", levels=LIMITED),
    Attack("memory by mmap", "import mmap\nx = []\nwhile True: x.append(mmap.mmap(-1, 1 << 24))", "MemoryError|Cannot allocate", levels=LIMITED),
    Attack("memory held by threads", "x = []\ndef f():\n    while True: x.append(bytearray(1 << 20))\n[threading.Thread(target=f, daemon=True).start() for _ in range(4)]\ntime.sleep(0.3)\nprint('slept')", "slept|emory|new thread", EITHER, LIMITED),
    Attack("decompressed", "import zlib\nz = zlib.compress(bytes(10**6)) * 1\nfor _ in range(60): z = zlib.compress(zlib.decompress(z) * 10)", "MemoryError|limit of a cell|memory", EITHER, LIMITED),
    Attack("XML that grows", "import xml.etree.ElementTree as e\ne.fromstring('<!DOCTYPE a [<!ENTITY a0 \"ha\">' + ''.join(f'<!ENTITY a{n} \"{f\"&a{n-1};\" * 10}\">' for n in range(1, 12)) + ']><a>&a11;</a>')", "ParseError|MemoryError|limit of a cell", EITHER, LIMITED),
    Attack("descriptors", "x = []\nwhile True: x.extend(os.pipe())", "Too many open files", levels=LIMITED),
    Attack("pairs of sockets", "x = []\nwhile True: x.append(socket.socketpair())", "Too many open files|not allowed", levels=LIMITED),
    Attack("threads", "for _ in range(5000): threading.Thread(target=time.sleep, args=(0.3,), daemon=True).start()", "can't start new thread|MemoryError", EITHER, LIMITED),
    Attack("twenty thousand variables", "for n in range(20_000): globals()[f'v{n}'] = n", "", levels=EVERYWHERE),
    Attack("a name of a megabyte", "globals()['v' * 10**6] = 1\nprint('bound')", "bound", levels=EVERYWHERE),
    Attack("threads that never end", "def f():\n    while True: pass\n[threading.Thread(target=f, daemon=True).start() for _ in range(4)]\nos._exit(0)", "ended itself|limit of a cell", REPLACED, EVERYWHERE),
    Attack("10^10^8", "10 ** 10 ** 8", "limit of a cell", EITHER, EVERYWHERE),
    Attack("a long loop in C", "sum(range(10**12))", "limit of a cell", REPLACED, EVERYWHERE, slow=True),
    Attack("factorial", "math.factorial(10**8)", "limit of a cell", EITHER, EVERYWHERE, slow=True),
    Attack("digits", "str(10**4300 ** 1 * 10**5000)", "ValueError: Exceeds the limit", levels=EVERYWHERE),
    Attack("regex", "import re\nre.match('(a+)+b', 'a' * 40)", "limit of a cell", EITHER, EVERYWHERE),
    Attack("decimal", "import decimal\ndecimal.getcontext().prec = 10**8\ndecimal.Decimal(2).sqrt()", "limit of a cell|MemoryError", EITHER, LIMITED),
    Attack("an endless loop", "while True: pass", "limit of a cell", levels=EVERYWHERE),
    Attack("sleep", "time.sleep(1000)", "limit of a cell", levels=EVERYWHERE, slow=True),
    Attack("endless product", "import itertools\nfor x in itertools.product(range(10), repeat=20): pass", "limit of a cell", levels=EVERYWHERE, slow=True),
    Attack("endless answer", "import itertools\nFINAL(itertools.repeat('x'))", "limit of a cell|too large|MemoryError|pieces", EITHER, LIMITED),
    Attack("answer without an end", "class L(list):\n    def __iter__(self):\n        while True: yield 1\nFINAL(L())", "limit of a cell|MemoryError|pieces", EITHER, LIMITED, slow=True),
    Attack("recursion", "def g(): g()\ng()", "RecursionError", levels=EVERYWHERE),
    Attack("recursion without a limit", "sys.setrecursionlimit(10**9)\ndef g(n=0): return [g(n + 1)]\ng()", "segmentation|RecursionError|MemoryError|memory|limit", EITHER, LIMITED, slow=True),
    Attack("recursion in repr", "x = []\nfor _ in range(100_000): x = [x]\nprint(x)", "RecursionError", levels=EVERYWHERE),
    Attack("code nested deeply", "eval('(' * 100_000)", "SyntaxError|MemoryError", levels=EVERYWHERE),
    Attack("a cell nested deeply", "(" * 50_000, "nested", levels=EVERYWHERE),
    Attack("code that compiles for long", "exec('+'.join(['1'] * 200_000))", "RecursionError|MemoryError|recursion", EITHER, LIMITED),
    Attack("flood of stdout, 2 GB", "x = 'x' * 10**6\nfor _ in range(2_000): print(x)", "characters not shown", levels=EVERYWHERE),
    Attack("flood of descriptor 1", "x = b'x' * (1 << 20)\nfor _ in range(2_000): os.write(1, x)\nprint('written')", "written|limit of a cell", levels=EVERYWHERE),
    Attack("flood of descriptor 2", "import faulthandler\nwhile True: libc.perror(b'x' * 10_000)", "limit of a cell", levels=BARE),
    Attack("flood of lines", "for n in range(10**7): print(n)", "limit of a cell|not shown", levels=EVERYWHERE, slow=True),
    Attack("an error of 100 MB", "raise ValueError('x' * 10**8)", "ValueError", levels=LIMITED),
    Attack("an error that explodes", "class E(Exception):\n    def __str__(self): raise E\nraise E", "E", levels=EVERYWHERE),
    Attack("an error that never ends", "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E", "limit of a cell", EITHER, EVERYWHERE),
    Attack("a value that never ends", "class R:\n    def __repr__(self):\n        while True: pass\nR()", "limit of a cell", levels=EVERYWHERE),
]  # fmt: skip
INTERRUPTS = [
    Attack("interrupt swallowed", "while True:\n    try: time.sleep(0.05)\n    except BaseException: pass", "did not stop when interrupted", REPLACED, EVERYWHERE, slow=True),
    Attack("interrupt ignored", "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass", "did not stop when interrupted", REPLACED, EVERYWHERE),
    Attack("interrupt taken, next cell", "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)", "", levels=EVERYWHERE),
    Attack("interrupt blocked", "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})\nwhile True: pass", "limit of a cell", EITHER, EVERYWHERE, slow=True),
    Attack("in a finally", "while True:\n    try:\n        while True: pass\n    finally: continue", "limit of a cell", EITHER, EVERYWHERE),
    Attack("in a coroutine", "async def f():\n    while True:\n        try: await asyncio.sleep(0.01)\n        except BaseException: pass\nawait f()", "limit of a cell", EITHER, EVERYWHERE, slow=True),
    Attack("deadlock", "lock = threading.Lock()\nlock.acquire(); lock.acquire()", "limit of a cell", EITHER, EVERYWHERE, slow=True),
    Attack("a stop signal to itself", "import signal\nsignal.raise_signal(signal.SIGSTOP)\nprint('went on')", "limit of a cell|not permitted", EITHER, EVERYWHERE),
    Attack("SIGTERM to itself", "import signal\nsignal.raise_signal(signal.SIGTERM)", "signal|not permitted", EITHER, EVERYWHERE),
    Attack("SIGKILL to itself", "import signal\nsignal.raise_signal(signal.SIGKILL)", "killed|not permitted", EITHER, EVERYWHERE),
    Attack("null pointer", "ctypes.string_at(0)", "segmentation fault", REPLACED, BARE),
    Attack("wild write", "ctypes.memset(id(None), 255, 64)", "crash|ended", REPLACED, BARE),
    Attack("abort", "os.abort()", "abort", REPLACED, EVERYWHERE),
    Attack("_exit", "os._exit(0)", "ended itself", REPLACED, EVERYWHERE),
    Attack("exit in a thread", "t = threading.Thread(target=sys.exit); t.start(); t.join(); print('here')", "here", levels=EVERYWHERE),
    Attack("exit", "exit()\nprint('not reached')", "^$", levels=EVERYWHERE),
    Attack("bad bytecode", "def f(): pass\nf.__code__ = f.__code__.replace(co_code=bytes(range(256)))\nf()", "", EITHER, EVERYWHERE),
    Attack("a trace function", "def t(*a): raise ValueError('traced')\nsys.settrace(t)\nthreading.settrace(t)\nsys.setprofile(t)", "", EITHER, EVERYWHERE),
    Attack("an audit hook", "def h(*a): raise ValueError('audited')\nsys.addaudithook(h)", "", EITHER, EVERYWHERE),
    Attack("a long switch interval", "sys.setswitchinterval(1e6)\nthreading.Thread(target=lambda: time.sleep(0.01)).start()\nwhile True: pass", "limit of a cell", EITHER, EVERYWHERE),
    Attack("a thread that goes on", "def f():\n    while True:\n        try: llm_query('again')\n        except BaseException: time.sleep(0.01)\nthreading.Thread(target=f, daemon=True).start()\nprint('left')", "left", EITHER, EVERYWHERE),
    Attack("gc callbacks", "gc.callbacks.append(lambda *a: time.sleep(0.01))\n[[] for _ in range(1000)]\ngc.callbacks.clear()", "", levels=EVERYWHERE),
]  # fmt: skip

PROTOCOL = "broke the protocol"
HEAVY = PROTOCOL + "|MemoryError|want of memory"
"""Where making the frame may already be too much for the child."""
LIMIT = re.compile("limit of a cell|did not stop")
"""Rows that may say so are run where that limit is short."""
FRAMES = [
    Attack("unknown kind", "link().send('nonsense')\ntime.sleep(30)", PROTOCOL, REPLACED, EVERYWHERE),
    Attack("ready again", "link().send('ready', {'refused': {}, 'missing': []})\ntime.sleep(30)", PROTOCOL, REPLACED, EVERYWHERE),
    Attack("garbage", "link()._socket.sendall(b'\\xff' * 100)\ntime.sleep(30)", PROTOCOL, REPLACED, EVERYWHERE),
    Attack("zeros", "torrent(bytes(1 << 16))", PROTOCOL, REPLACED, EVERYWHERE),
    Attack("torn", "from rlm_cli.sandbox import wire\nlink()._socket.sendall(wire.encode('done', {'cell': cell()}, ['x' * 100])[:50])", "limit of a cell|protocol", REPLACED, EVERYWHERE),
    Attack("torn, then closed", "link()._socket.sendall(b'\\0\\0')\nlink()._socket.shutdown(2)\ntime.sleep(30)", "ended|protocol|killed", REPLACED, EVERYWHERE),
    Attack("oversized", "import struct\nlink()._socket.sendall(struct.pack('!II', 2**31, 2**31))\ntime.sleep(30)", PROTOCOL, REPLACED, EVERYWHERE),
    Attack("as large as may be, in garbage", "import struct\nfrom rlm_cli.sandbox import wire\nlink()._socket.sendall(struct.pack('!II', 10, wire.MAX_BODY))\ntorrent(b'x' * (1 << 20))", HEAVY, EITHER, EVERYWHERE),
    Attack("header nested", "import struct\nh = b'[' * 1_000_000\nlink()._socket.sendall(struct.pack('!II', len(h), 0) + h)\ntime.sleep(30)", HEAVY, EITHER, EVERYWHERE),
    Attack("header of tiny items", "import struct\nfrom rlm_cli.sandbox import wire\nh = b'{\"kind\":\"done\",\"sizes\":[],\"x\":[' + b'{\"\":0},' * ((wire.MAX_HEADER - 60) // 7) + b'0]}'\nlink()._socket.sendall(struct.pack('!II', len(h), 0) + h)\ntime.sleep(30)", HEAVY, EITHER, EVERYWHERE),
    Attack("header with a wide character", "import struct\nfrom rlm_cli.sandbox import wire\nh = b'{\"kind\":\"done\",\"sizes\":[],\"x\":\"\\\\ud83d\\\\ude00' + b'x' * (wire.MAX_HEADER - 60) + b'\"}'\nlink()._socket.sendall(struct.pack('!II', len(h), 0) + h)\ntime.sleep(30)", HEAVY, EITHER, EVERYWHERE),
    Attack("numbers of many digits", "import struct\nh = b'{\"kind\":\"done\",\"sizes\":[],\"cell\":' + b'9' * 10**6 + b'}'\nlink()._socket.sendall(struct.pack('!II', len(h), 0) + h)\ntime.sleep(30)", PROTOCOL, REPLACED, EVERYWHERE),
    Attack("done of another cell", "done(cell=999_999)", PROTOCOL, REPLACED, EVERYWHERE),
    Attack("done twice", "threading.Thread(target=done, daemon=True).start()\ntime.sleep(0.2)\ndone()", "", EITHER, EVERYWHERE),
    Attack("done, and never stopping", "done(answer='\"forged\"', rest=1)", "", EITHER, EVERYWHERE),
    Attack("answer nested", "done(answer='[' * 20_000_000)", HEAVY, EITHER, EVERYWHERE),
    Attack("answer nested as deep as may be", "done(answer='[' * 900 + ']' * 900, rest=1)", "", EITHER, EVERYWHERE),
    Attack("answer of tiny lists", "done(answer='[' + '[],' * 9_000_000 + '0]')", HEAVY, EITHER, EVERYWHERE),
    Attack("answer of tiny objects", "done(answer='[' + '{\"\":0},' * 3_500_000 + '0]')", PROTOCOL, REPLACED, EVERYWHERE),
    Attack("answer of tiny numbers", "done(answer='[' + '1.5,' * 7_000_000 + '0]')", HEAVY, EITHER, EVERYWHERE),
    Attack("answer of many keys", "done(answer='{' + ','.join(f'\"{n}\":0' for n in range(2_500_000)) + '}')", HEAVY, EITHER, EVERYWHERE),
    Attack("answer with a wide character", "done(answer=b'\"' + b'x' * 30_000_000 + '\\U0001F600\"'.encode())", HEAVY, EITHER, EVERYWHERE),
    Attack("answer with an escaped character", "done(answer='\"' + 'x' * 25_000_000 + '\\\\ud83d\\\\ude00\"')", HEAVY, EITHER, EVERYWHERE),
    Attack("answer with a lone surrogate", "done(answer='\"' + 'x' * 25_000_000 + '\\\\ud83d\"')", HEAVY, EITHER, EVERYWHERE),
    Attack("answer of one number", "done(answer='9' * 30_000_000)", HEAVY, EITHER, EVERYWHERE),
    Attack("answer and draft", "x = '\"' + 'x' * 15_000_000 + '\"'\ndone(answer=x, draft=x, rest=1)", "", EITHER, EVERYWHERE, slow=True),
    Attack("output of 30 MB", "done(stdout='x' * 30_000_000, rest=1)", "x", EITHER, EVERYWHERE),
    Attack("output of wide characters", "done(stdout='x' * 20_000_000 + '\\U0001F600', rest=1)", "", EITHER, EVERYWHERE),
    Attack("quotes without number", "done(answer='1', quotes=[[None, 'x']] * 20_000)", PROTOCOL, REPLACED, EVERYWHERE),
    Attack("variables without number", "done(variables=[['a', 'b']] * 100_000, rest=1)", "", EITHER, EVERYWHERE),
    Attack("query of no kind", "ask(query='exec')", PROTOCOL, REPLACED, EVERYWHERE),
    Attack("query with a model's name of a kilobyte", "ask(model='m' * 1000)", PROTOCOL, REPLACED, EVERYWHERE),
    Attack("query beyond the corpus", "ask(contexts=[['span', 0, 10**9]])", PROTOCOL, REPLACED, EVERYWHERE),
    Attack("query with a path", "ask(contexts=[{'open': '/etc/passwd'}])", PROTOCOL, REPLACED, EVERYWHERE),
    Attack("query with a false id", "ask(id=True)", PROTOCOL, REPLACED, EVERYWHERE),
    Attack("query with an id in use", "for _ in range(2): link().send('query', {'cell': cell(), 'query': 'llm', 'model': None, 'prompts': 1, 'contexts': [None], 'id': 7}, ('slow',))\ntime.sleep(30)", PROTOCOL, REPLACED, EVERYWHERE),
    Attack("query with an endless id", "ask(id=10**4000, rest=1)", "", EITHER, EVERYWHERE),
    Attack("flood of queries", "n, l, c = 0, link(), cell()\nwhile True:\n    n += 1\n    l.send('query', {'cell': c, 'query': 'llm', 'model': None, 'prompts': 1, 'contexts': [None], 'id': n}, ('slow',))", HEAVY, EITHER, EVERYWHERE),
    Attack("flood of empty prompts", "from rlm_cli.sandbox import wire\nd = wire.encode('query', {'cell': cell(), 'query': 'llm', 'model': None, 'prompts': 20_000, 'contexts': [None] * 20_000, 'id': 100}, ('slow',) + ('',) * 19_999)\nl = link()\nfor n in range(100, 400): l._socket.sendall(d.replace(b'\"id\": 100', b'\"id\": %d' % n))\ntime.sleep(30)", HEAVY, EITHER, EVERYWHERE),
    Attack("flood of contexts", "from rlm_cli.sandbox import wire\nd = wire.encode('query', {'cell': cell(), 'query': 'llm', 'model': None, 'prompts': 1, 'contexts': [['list', [['span', 0, 1]] * 70_000]], 'id': 100}, ('slow',))\nl = link()\nfor n in range(100, 400): l._socket.sendall(d.replace(b'\"id\": 100', b'\"id\": %d' % n))\ntime.sleep(30)", HEAVY, EITHER, EVERYWHERE),
    Attack("prompts of wide characters", "ask_ = lambda n: link().send('query', {'cell': cell(), 'query': 'llm', 'model': None, 'prompts': 1, 'contexts': [None], 'id': n}, ('slow' + 'x' * 14_000_000 + '\\U0001F600',))\n[ask_(n) for n in (1, 2)]\ntime.sleep(30)", HEAVY, EITHER, EVERYWHERE),
    Attack("replies that nobody reads", "l, c = link(), cell()\nblock = threading.Lock(); block.acquire()\nl._waiting = type('W', (dict,), {'get': lambda *a: block.acquire()})()\nn = 10\nwhile True:\n    n += 1\n    l.send('query', {'cell': c, 'query': 'llm', 'model': None, 'prompts': 20_000, 'contexts': [None] * 20_000, 'id': n}, ('fail',) * 20_000)", "limit of a cell|time that was left|protocol|memory", EITHER, EVERYWHERE, slow=True),
    Attack("flood of modules", "n, l = 0, link()\nwhile True:\n    n += 1\n    l.send('module', {'name': 'argparse', 'id': n})", "limit of a cell|protocol", EITHER, EVERYWHERE),
    Attack("a reply forged", "from rlm_cli.sandbox.wire import Frame\nl = link()\ndef forge():\n    while not l._waiting: pass\n    for slot in list(l._waiting.values()): slot.put(Frame('reply', {'id': 1, 'failed': []}, (b'forged',)))\nthreading.Thread(target=forge, daemon=True).start()\nprint(llm_query('slow'))", "forged|llm:slow", levels=EVERYWHERE),
    Attack("a reply that is none", "from rlm_cli.sandbox.wire import Frame\nl = link()\ndef forge():\n    while not l._waiting: pass\n    for slot in list(l._waiting.values()): slot.put(None)\nthreading.Thread(target=forge, daemon=True).start()\nprint(llm_query('slow'))", "Error|llm:slow", levels=EVERYWHERE),
    Attack("a cell forged", "from rlm_cli.sandbox.wire import Frame\nlink().cells.put(Frame('cell', {'cell': 7_000_000}, (b'print(1)',)))", "", EITHER, EVERYWHERE),
    Attack("the wire closed", "link()._socket.close()\nos._exit(1)", "exit code 1", REPLACED, EVERYWHERE),
    Attack("the wire emptied", "s = link()._socket\nwhile True: s.recv(1 << 16)", "limit of a cell|ended", EITHER, EVERYWHERE),
]  # fmt: skip

NAMES = [
    Attack(f"overwritten: {name}", code, "", fate, EVERYWHERE)
    for name, code, fate in [
        ("llm_query", "llm_query = None", KEPT),
        ("llm_query, deleted", "del llm_query, rlm_query, llm_query_batched", KEPT),
        ("FINAL", "FINAL = lambda *a, **k: None\nFINAL('x')", KEPT),
        ("FINAL by a class", "class FINAL: pass", KEPT),
        ("FINAL by a function", "def FINAL(x): return x\nFINAL_VAR = SHOW_VARS = FINAL", KEPT),
        ("context", "context = ''", KEPT),
        ("docs", "docs = []", KEPT),
        ("re", "re = None", KEPT),
        ("builtins, deleted", "import builtins\ndel builtins.print, builtins.len, builtins.Exception", KEPT),
        ("builtins, cleared", "import builtins\nbuiltins.__dict__.clear()", EITHER),
        ("builtins of the cell", "__builtins__ = {}", KEPT),
        ("builtins of the cell, cleared", "__builtins__.clear()", KEPT),
        ("__import__", "import builtins\nbuiltins.__import__ = None", KEPT),
        ("isinstance", "import builtins\nbuiltins.isinstance = lambda *a: True\nbuiltins.type = str", EITHER),
        ("everything", "globals().clear()", KEPT),
        ("__name__", "__name__ = 3\n__file__ = 4\n__doc__ = 5", KEPT),
        ("stdout", "import sys\nsys.stdout = sys.stderr = None", KEPT),
        ("stdout, closed", "import sys\nsys.stdout.close()", KEPT),
        ("stdout.write", "import sys\nsys.stdout.write = lambda text: 0", KEPT),
        ("stdout.shown", "import sys\nsys.stdout.shown = None", EITHER),
        ("modules", "import sys\nsys.modules.clear()", KEPT),
        ("finders", "import sys\nsys.meta_path.clear()", KEPT),
        ("json", "import json\njson.dumps = json.loads = None", EITHER),
        ("threads", "import threading\nthreading.get_ident = threading.Lock = None", EITHER),
        ("asyncio", "import asyncio\nasyncio.Runner = None", KEPT),
        ("linecache", "import linecache\nlinecache.cache = None", EITHER),
        ("the REPL's run", "r = repl()\ntype(r).run = None", EITHER),
        ("__main__", "import sys\nsys.modules['__main__'] = None", KEPT),
        ("a name that compares", "class E:\n    def __eq__(self, other): raise ValueError\n    __hash__ = None\nllm_query = E()", KEPT),
        ("answer", "answer = {'content': object(), 'ready': 1}", EITHER),
        ("answer that explodes", "class D(dict):\n    n = 0\n    def __contains__(self, key):\n        D.n += 1\n        if D.n < 2: raise KeyboardInterrupt\nanswer = D()", KEPT),
    ]
]  # fmt: skip


def attacks(level: str, machine: str, quick: bool = False) -> Iterator[Attack]:
    """The rows that are to hold at this level, on this machine (as `os.uname` calls it); `quick`: the slow left out."""
    rows = [
        *(Attack(name, code, REFUSED) for table in (FILES, WRITES, NETWORK, PROCESSES) for name, code in table.items()),
        *(
            Attack(f"call: {name}", f"print(raw(number{numbers}{', ' * bool(rest)}{rest}))", "^-1 errno (1|38)$")
            for name, (numbers, rest) in RAW.items()
        ),
        *(TABLES if machine == "x86_64" else ()),
        *LEAKS,
        *BOMBS,
        *INTERRUPTS,
        *FRAMES,
        *NAMES,
    ]
    return (row for row in rows if level in row.levels and not (quick and row.slow))
