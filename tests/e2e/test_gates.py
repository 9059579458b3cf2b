"""The source gates can fail: small trees with one violation each."""
import pathlib
import subprocess

from e2e import ROOT, case, check, main

TABLE = "| room | owns | may include |\n|---|---|---|\n| sys | x | – |\n| base | x | – |\n" \
        "| num | x | – |\n| model | x | num |\n| cli | x | any door |\n"


def tree(name, **files):
    root = pathlib.Path(name)
    for room in ("sys", "base", "num", "model", "cli"):
        (root / "src" / room).mkdir(parents=True)
    (root / "ARCHITECTURE.md").write_text(TABLE, encoding="utf-8")
    for key, text in files.items():
        (root / "src" / key.replace("__", "/").replace("_c", ".c")).write_text(text)
    return root


def gate(tool, root):
    done = subprocess.run([str(ROOT / "tools" / tool), str(root)], capture_output=True, text=True)
    return done.returncode, done.stdout


def holds(tool, root):
    status, out = gate(tool, root)
    check(status == 0, f"{tool} refuses a tree that is in order:\n{out}")


def finds(tool, root, *words):
    status, out = gate(tool, root)
    check(status == 1, f"{tool} accepts:\n{words}\n{out}")
    for word in words:
        check(word in out, f"{tool} does not say '{word}':\n{out}")


@case
def layers():
    holds("check-layers", tree("l0", model__a_c='#include "num/num.h"\n#include "base/text.h"\n'))
    finds("check-layers", tree("l1", num__a_c='\n#include "model/model.h"\n'),
          "src/num/a.c:2", "num may not include model")
    finds("check-layers", tree("l2", sys__a_c='#include "base/text.h"\n'), "src/sys/a.c:1")
    finds("check-layers", tree("l3", cli__a_c='#include "num/num_int.h"\n'), "private to num")
    finds("check-layers", tree("l4", cli__a_c='#include "attic/old.h"\n'), "no room")


@case
def limits():
    body = "    x++;\n" * 99
    holds("check-limits", tree("s0", num__a_c="int f(int x) {\n" + body[9:] + "}\n"))
    finds("check-limits", tree("s1", num__a_c="int f(int x) {\n" + body + "}\n"),
          "src/num/a.c:1", "f has 101 lines")
    finds("check-limits", tree("s2", num__a_c="int f(char *s) { return ato" + "i(s); }\n"),
          "banned")
    finds("check-limits", tree("s3", num__a_c="void f(void) { ex" + "it(1); }\n"),
          "outside src/cli")
    holds("check-limits", tree("s4", cli__a_c="void f(void) { ex" + "it(1); }\n"))
    finds("check-limits", tree("s9", num__a_c="void f(void *p) { free(p); }\n"), "memory.h")
    finds("check-limits", tree("s11", num__a_c="void *f(void) { return aligned_alloc(64, 64); }\n"),
          "aligned_alloc", "memory.h")
    holds("check-limits", tree("s12", num__a_c="void f(void *p) { aa_heap_free(p); }\n"))
    holds("check-limits", tree("s10", sys__a_c="void f(void *p) { free(p); }\n"))
    finds("check-limits", tree("s5", num__a_c="/* TO" + "DO */\n"), "src/num/a.c:1")
    finds("check-limits", tree("s6", num__a_c="#if" + " 0\n#endif\n"), "disabled")
    finds("check-limits", tree("s7", num__a_c="int x;" + " " * 95 + "\n"), "columns")
    holds("check-limits", tree("s8", num__a_c='const char *s = "ex" "it(1) /*";\n/* printf( */\n'))


if __name__ == "__main__":
    main(needs_program=False)
