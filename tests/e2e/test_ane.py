"""Programs of the Neural Engine, looked at: ane lint, ane explain."""
import json
import pathlib
import struct

from e2e import case, check, done, main, refused, run

PROGRAM = """program(1.3)
{
    func main<ios18>(tensor<fp16, [1, 64, 1, 64]> a) {
        tensor<fp16, [128, 64, 1, 1]> w = const()[name = string("w"), val = WEIGHT];
        tensor<fp16, [1, 128, 1, 64]> z = conv(x = a, weight = w)[name = string("z")];
    } -> (z);
}
""".replace("WEIGHT", "tensor<fp16, [128, 64, 1, 1]>(BLOBFILE(path = "
            "string(\"@model_path/weights/w.bin\"), offset = uint64(64)))")


def weights(path, size=128 * 64 * 2):
    record = struct.pack("<IIQQQ32x", 0xDEADBEEF, 1, size, 128, 0)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(struct.pack("<II56x", 1, 2) + record + bytes(128 * 64 * 2))


def put(text=PROGRAM, name="model.mil"):
    pathlib.Path(name).write_text(text, encoding="utf-8")
    return name


@case
def a_good_program_has_no_errors():
    weights(pathlib.Path("weights/w.bin"))
    for profile in ("fast", "strict"):
        found = json.loads(done("ane", "lint", put(), "--profile", profile, "--json").out)
        check(found["errors"] == 0 and found["findings"] == [], f"found {found}")


@case
def findings_name_constraint_cause_line_and_severity():
    weights(pathlib.Path("weights/w.bin"), size=100)
    put(PROGRAM.replace("conv(x = a, weight = w)[name = string(\"z\")]", "conv(x = a, weight = w)")
        .replace("    } ->", "        tensor<fp16, [1, 128, 1, 64]> y = rsqrt(x = z);\n    } ->")
        .replace("(z);", "(z, y);"))
    r = run("ane", "lint", "model.mil", "--json")
    check(r.status == 1, "status", r)
    found = {f["constraint"]: f for f in json.loads(r.out)["findings"]}
    check(found[15]["line"] == 4 and found[15]["severity"] == "error", f"found {found[15]}")
    check(found[15]["cause"] == "U3" and "100 bytes" in found[15]["detail"], f"found {found[15]}")
    check(found[23]["line"] == 6 and "epsilon" in found[23]["detail"], f"found {found[23]}")
    check(found[4]["severity"] == "warning", f"found {found[4]}")
    strict = run("ane", "lint", "model.mil", "--json", "--profile", "strict")
    found = {f["constraint"]: f for f in json.loads(strict.out)["findings"]}
    check(found[4]["severity"] == "error", f"found {found[4]}")
    text = run("ane", "lint", "model.mil").out
    check("model.mil:6: error C23: main/y:" in text, f"found {text}")


@case
def chips_differ():
    put(PROGRAM.replace("conv(x = a, weight = w)", "sin(x = a)")
        .replace("128, 1, 64]> z", "64, 1, 64]> z"))
    weights(pathlib.Path("weights/w.bin"))
    done("ane", "lint", "model.mil", "--chip", "m4")
    refused(run("ane", "lint", "model.mil", "--chip", "m1"), 1, "on m1")
    refused(run("ane", "lint", "model.mil", "--chip", "m9"), 2, "m1, m1pro")


@case
def weights_outside_of_the_directory_are_not_read():
    put(PROGRAM.replace("weights/w.bin", "../w.bin"))
    weights(pathlib.Path("weights/w.bin"))
    refused(run("ane", "lint", "model.mil"), 1, "1 errors")


@case
def explained_with_a_simulated_cost():
    out = json.loads(done("ane", "explain", put(), "--chip", "m4", "--json").out)
    f = out["functions"][0]
    check(f["flop"] == 2 * 128 * 64 * 64 and f["constant_bytes"] == 128 * 64 * 2, f"found {f}")
    check(0.05 < f["simulated_ms"] < 0.1, f"found {f}")
    text = done("ane", "explain", "model.mil").out
    check("simulated on m1" in text and "conv" in text, f"found {text}")


@case
def a_text_that_is_no_program():
    refused(run("ane", "explain", put("program(1.3)\n{\n  funk")), 1, "model.mil:3")
    refused(run("ane", "lint", "missing.mil"), 1, "missing.mil")


main()
