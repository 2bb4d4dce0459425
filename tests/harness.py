"""Disturb `dvc repro` in every way that a machine can: python tests/harness.py [case ...]

Each case works on a small graph of its own, in processes of their own, which are then ended,
starved or given damaged files. Afterwards `make verify` and `dvc repro` must end with the arrays,
tables and values of an undisturbed run, to the last byte. Prints for each case what was done how
often and what the commands said; ends with 1 if any number differs.

kill        the whole process group by SIGKILL, at 30 random moments
orphan      `dvc` alone by SIGKILL at 10 random moments, while its stage goes on
interrupt   SIGINT at 5 random moments, as Ctrl-C
disk        a file system (a tmpfs, which needs root) with 60, 300, 2000 KiB, then room for all
memory      an address space of 1.5 GiB, then without a limit
two         two `dvc repro` at once
cache       of every third file of the cache a bit flipped, every third truncated, no results left
lock        dvc.lock cut off at 20 places
clock       all times of files a day ahead, and parameters changed and changed back
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from project import Project, environment

GROUP = "fuel"
LEFT_OUT = ("node-meta.json",)  # times of the run


class Small:
    """A small graph in a folder of its own, with real processes."""

    def __init__(self, folder: Path, origin: Path | None = None):
        if origin is None:
            self.project = Project.copy_to(folder)
            self.project.shrink((GROUP,))
            self.project.commit()
        else:
            shutil.copytree(origin, folder, symlinks=True, dirs_exist_ok=True)
            self.project = Project(folder)
        self.folder = folder

    def start(self, *command: str) -> subprocess.Popen:
        # Without the warm programs of the tests, whose processes are not children of this one.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment() | {"PATH": path, "COLLECTIVE_VARIABLES_WARM": "1"},
            text=True,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *command: str) -> tuple[int, str]:
        process = self.start(*command)
        output = process.communicate()[0]
        return process.returncode, output

    def end(self) -> str:
        """Verify and reproduce; what was said. It must succeed."""
        said = self.verify()
        code, output = self.run("dvc", "repro")
        if code:
            raise SystemExit(f"dvc repro ended with {code}:\n{said}{output}")
        return said + output

    def verify(self) -> str:
        """Remove what is damaged, also a lock without a whole stage, which is left to the user."""
        command = (sys.executable, "scripts/verify_cache.py")
        code, said = self.run(*command)
        if code and "has no whole stage left" in said:
            (self.folder / "dvc.lock").unlink()
            code, output = self.run(*command)
            said += output
        if code:
            raise SystemExit(f"{' '.join(command)} ended with {code}:\n{said}")
        return said

    def results(self) -> dict[str, bytes]:
        folder = self.folder / "nodes" / GROUP
        paths = [
            path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.name.startswith(".")
        ]
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in paths
            if path.name not in LEFT_OUT
        }


class Harness:
    """The undisturbed run, and the comparisons with it."""

    def __init__(self, folder: Path, seed: int = 0):
        self.folder, self.random, self.differ, self.number = folder, random.Random(seed), [], 0
        self.fresh = Small(folder / "fresh")
        done = self.copy()
        start = time.perf_counter()
        done.end()
        self.seconds, self.done, self.expected = time.perf_counter() - start, done, done.results()
        assert len(self.expected) > 20

    def copy(self, origin: Small | None = None, into: Path | None = None) -> Small:
        self.number += 1
        return Small(into or self.folder / f"copy-{self.number}", (origin or self.fresh).folder)

    def compare(self, case: str, small: Small) -> None:
        found = small.results()
        moved = sorted(
            name
            for name in self.expected.keys() | found.keys()
            if found.get(name) != self.expected.get(name)
        )
        self.differ += [f"{case}: {name}" for name in moved]
        self.differ += [
            f"{case}: {path.name} is left" for path in small.folder.glob("nodes/**/*unfinished*")
        ]
        if small.folder.name.startswith("copy-"):
            shutil.rmtree(small.folder)

    def moments(self, case: str, n: int, stop: Callable[[subprocess.Popen], None]) -> None:
        """Stop `dvc repro` at n random moments: again where it was, and anew when a run has come to
        its end.
        """
        small, n_done = self.copy(), 0
        for _ in range(n):
            process = small.start("dvc", "repro")
            try:
                output = process.communicate(timeout=self.random.uniform(0.0, self.seconds / 2))[0]
                if process.returncode:
                    raise SystemExit(
                        f"{case}: dvc repro ended with {process.returncode}:\n{output}"
                    )
            except subprocess.TimeoutExpired:
                stop(process)
                process.stdout.close()
                process.wait()
            report(case, small.verify())
            if process.returncode == 0:
                self.compare(case, small)
                small, n_done = self.copy(), n_done + 1
        report(case, small.end(), "waiting for its end", "had been killed")
        self.compare(case, small)
        print(f"{case}: stopped at {n} random moments, {n_done + 1} runs came to their end")

    def kill(self, n: int = 30) -> None:
        self.moments("kill", n, lambda process: os.killpg(process.pid, signal.SIGKILL))

    def orphan(self, n: int = 10) -> None:
        self.moments("orphan", n, lambda process: process.kill())

    def interrupt(self, n: int = 5) -> None:
        self.moments("interrupt", n, lambda process: os.killpg(process.pid, signal.SIGINT))

    def disk(self, spare: tuple[int, ...] = (60, 300, 2000)) -> None:
        for n_kib in spare:
            mounted = self.folder / f"disk-{n_kib}"
            mounted.mkdir()
            command = ["mount", "-t", "tmpfs", "-o", "size=500m", "none", str(mounted)]
            if subprocess.run(command, capture_output=True).returncode:
                print("disk: NOT RUN, since mount needs the rights of root")
                return
            try:
                small = Small(mounted, self.fresh.folder)
                size = shutil.disk_usage(mounted).used + n_kib * 2**10
                subprocess.run(["mount", "-o", f"remount,size={size}", str(mounted)], check=True)
                code, output = small.run("dvc", "repro")
                report("disk", output, "No space left", "ERROR")
                print(f"disk: {n_kib} KiB, dvc repro ended with {code}")
                subprocess.run(["mount", "-o", "remount,size=500m", str(mounted)], check=True)
                small.end()
                self.compare("disk", small)
            finally:
                subprocess.run(["umount", "--lazy", str(mounted)], check=True)

    def memory(self, mib: int = 1536) -> None:
        small = self.copy()
        code, output = small.run("bash", "-c", f"ulimit -v {1024 * mib}; exec dvc repro")
        report("memory", output, "emory", "alloc", "rror", "thread")
        print(f"memory: with {mib} MiB dvc repro ended with {code}")
        small.end()
        self.compare("memory", small)

    def two(self) -> None:
        small = self.copy()
        processes = [small.start("dvc", "repro") for _ in range(2)]
        for process in processes:
            output = process.communicate()[0]
            report("two", output, "ERROR", "PID")
            print(f"two: dvc repro ended with {process.returncode}")
        small.end()
        self.compare("two", small)

    def cache(self) -> None:
        small = self.copy(self.done)
        objects = sorted((small.folder / ".dvc/cache/files/md5").glob("*/*"))
        for number, path in enumerate(objects):
            content = bytearray(path.read_bytes())
            if not content or number % 3 == 2:
                continue
            path.chmod(0o644)
            if number % 3 == 0:
                content[self.random.randrange(len(content))] ^= 1 << self.random.randrange(8)
            else:
                content = content[: self.random.randrange(len(content))]
            path.write_bytes(content)
            path.chmod(0o444)
        shutil.rmtree(small.folder / "nodes" / GROUP)
        said = small.end()
        n = said.count("of the cache was damaged and is removed")
        print(f"cache: {n} of {len(objects)} files were found damaged")
        self.compare("cache", small)

    def lock(self, n: int = 20) -> None:
        small = self.copy(self.done)
        path = small.folder / "dvc.lock"
        text = path.read_text()
        for _ in range(n):
            path.write_text(text[: self.random.randrange(len(text))])
            output = small.verify()
            report("lock", output)
            if small.run("dvc", "status", "--quiet")[0] > 1:
                raise SystemExit(f"lock: DVC can't read what is left:\n{output}")
        said = small.end()
        print(f"lock: cut off at {n} places, then {said.count('Running stage')} stages run again")
        self.compare("lock", small)

    def clock(self) -> None:
        small = self.copy(self.done)
        later = time.time() + 86400
        for path in [small.folder, *small.folder.rglob("*")]:
            if not path.is_symlink() and ".git/" not in str(path):
                os.utime(path, (later, later))
        for n_epochs in (6, 4):  # the second is the value of the undisturbed run
            params = small.project.params()
            params[f"{GROUP}_TrainModel"]["n_epochs"] = n_epochs
            small.project.write_params(params)
            said = small.end()
            if n_epochs == 6 and f"Running stage '{GROUP}_TrainModel'" not in said:
                self.differ.append("clock: a changed parameter was not seen")
        print("clock: all files a day ahead, a parameter changed and changed back")
        self.compare("clock", small)


CASES = ("kill", "orphan", "interrupt", "disk", "memory", "two", "cache", "lock", "clock")


def report(case: str, output: str, *words: str) -> None:
    """Print the lines of an output that have one of the words, or all of them."""
    for line in dict.fromkeys(output.splitlines()):
        if line.strip() and (not words or any(word in line for word in words)):
            print(f"{case}:   | {line.strip()[:200]}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        harness = Harness(Path(folder))
        print(
            f"undisturbed: {harness.seconds:.0f} s, "
            f"{len(harness.expected)} files compared to the last byte",
            flush=True,
        )
        for case in sys.argv[1:] or CASES:
            getattr(harness, case)()
            sys.stdout.flush()
    print("\n".join(harness.differ) or "No number differs.")
    sys.exit(bool(harness.differ))


if __name__ == "__main__":
    main()
