"""Answers that try to get points without the idea, or to do harm; each gives what it reached."""

from __future__ import annotations

TEST = """
### BEGIN HIDDEN TESTS
@case("{name}", points=1)
def {name}_is_not_paid({name}, variant):
    expect({name}(), variant.number("n", 3.0, 9.0))
### END HIDDEN TESTS
check("{name}")
"""
# Questions of one submission, whose process lives on.
THIEF = {
    "environment": """
def environment():
    import os
    return " ".join(f"{name}={value}" for name, value in os.environ.items())
""",
    "memory_of_others": """
def memory_of_others():
    import os
    seen = [int(one) for one in os.listdir("/proc") if one.isdigit()]
    lines = [open(f"/proc/{pid}/cmdline").read() for pid in seen]
    return f"{len(seen)} processes, pytest: {any('pytest' in line for line in lines)}"
""",
    "objects": """
def objects():
    import gc
    kept = [one for one in gc.get_objects() if type(one).__name__ == "Session"]
    return f"{len(kept)} sittings, secrets {sorted({str(one.secret) for one in kept})}"
""",
    "files": """
def files():
    import os, sys
    found, known = [], {"/proc", "/usr", sys.prefix, sys.base_prefix}
    for folder, inside, names in os.walk("/"):
        inside[:] = [one for one in inside if os.path.join(folder, one) not in known]
        found += [one for one in names if one.endswith(".ipynb") or one == "course.json"]
    try:
        open("SOURCE")
    except OSError as error:
        found.append(type(error).__name__)
    return f"{found}"
""",
    "network": """
def network():
    import socket
    try:
        socket.create_connection(("127.0.0.1", PORT), timeout=2)
    except OSError as error:
        return f"no network: {type(error).__name__}"
    return "connected"
""",
    "disk": """
def disk():
    import os
    written = 0
    for folder in ("/tmp", "/dev/shm", "/dev", "/package", "/"):
        try:
            for number in range(100):
                with open(f"{folder}/{number}", "wb") as file:
                    written += file.write(bytes(10 * 2**20))
        except OSError:
            pass
        for number in range(100):
            if os.path.exists(f"{folder}/{number}") and folder != "/dev":
                os.remove(f"{folder}/{number}")
    return f"{written >> 20} MB"
""",
    "output": """
def output():
    import sys
    for _ in range(1024):
        sys.stdout.write("x" * 2**20)
        sys.stderr.write("x")
    return "printed"
""",
    "memory": """
def memory():
    return f"{len(bytearray(20 * 2**30))}"
""",
    "pickled": """
class Evil:
    def __reduce__(self):
        import os
        return os.system, ("touch MARKER",)
    def __eq__(self, other):
        return True

def pickled():
    return Evil()
""",
    "pickle_text": """
def pickle_text():
    import pickle
    return pickle.dumps(Evil())
""",
    "patched": """
import numpy, torch
import lightning_rl.classroom.expectations as theirs
numpy.isclose = torch.isclose = lambda *a, **k: True
theirs.expect = lambda *a, **k: None

def patched():
    return 7.0
""",
    "clock": """
import time
time.monotonic = time.time = time.perf_counter = lambda: 0.0
time.sleep = lambda seconds: None

def clock():
    return "the time is 0"
""",
}
# Those whose process ends, or has to be ended.
KILLER = {
    "bomb": """
def bomb():
    import os
    number = 0
    try:
        while True:
            if os.fork() == 0:
                os.execv("/bin/sleep", ["sleep", "SLEEP"])
            number += 1
    except OSError:
        return f"{number} processes"
""",
    "long_value": """
def long_value():
    import torch
    return torch.zeros(2**25)
""",
    "leaves": """
def leaves():
    import os
    os._exit(0)
""",
    "endless": """
def endless():
    while True:
        pass
""",
}
