"""The program as a file: what it links, how it installs."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

from e2e import PROGRAM, ROOT, SLOW, Skip, case, check, main

BUILD = pathlib.Path(os.environ.get("AA_BUILD") or ROOT / "build")
SYSTEM = re.compile(r"^(libc|libm|libpthread|libdl|ld-linux.*|ld64)\.so|^linux-vdso")


@case
def links_only_the_system():
    if SLOW:
        raise Skip("sanitizers bring libraries of their own")
    if sys.platform == "darwin":
        out = subprocess.run(["otool", "-L", PROGRAM], capture_output=True, text=True).stdout
        needed = [line.split()[0] for line in out.splitlines()[1:]]
        foreign = [n for n in needed if not n.startswith(("/usr/lib/", "/System/"))]
    else:
        if not shutil.which("readelf"):
            raise Skip("readelf is not installed")
        out = subprocess.run(["readelf", "-d", PROGRAM], capture_output=True, text=True).stdout
        needed = re.findall(r"\(NEEDED\).*\[(.*)\]", out)
        foreign = [n for n in needed if not SYSTEM.match(n)]
        check("RPATH" not in out and "RUNPATH" not in out, f"a library path is set:\n{out}")
    check(needed, f"no dynamic section:\n{out}")
    check(not foreign, f"the program needs {foreign}")


@case
def installs():
    where = pathlib.Path("prefix").absolute()
    done = subprocess.run(["cmake", "--install", str(BUILD), "--prefix", str(where)],
                          capture_output=True, text=True)
    check(done.returncode == 0, done.stdout + done.stderr)
    installed = where / "bin" / "autoane"
    check(installed.exists(), "bin/autoane was not installed")
    out = subprocess.run([str(installed), "--version"], capture_output=True, text=True).stdout
    check(re.search(r"\d+\.\d+\.\d+", out), f"--version prints {out!r}")
    page = where / "share" / "man" / "man1" / "autoane.1"
    check(page.exists(), "the man page was not installed")
    text = page.read_text()
    for word in (".TH AUTOANE 1", "generate", "batch\\-tokens", "EXIT STATUS"):
        check(word in text, f"the man page lacks '{word}'")
    foreign = [str(p.relative_to(where)) for p in where.rglob("*") if p.is_file() and
               p.relative_to(where).parts[0] not in ("bin", "share", "include", "lib")]
    check(not foreign, f"installed outside the usual folders: {foreign}")


if __name__ == "__main__":
    main()
