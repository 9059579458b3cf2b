"""Files of models, read and written by their authors' descriptions: nothing of the program here."""
import json
import pathlib
import struct

KINDS = "u8 i8 u16 i16 u32 i32 f32 bool string array u64 i64 f64".split()
CODES = dict(zip(KINDS, "BbHhIif?  Qqd"))
TYPES = {0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 8: ("Q8_0", 32, 34),
         30: ("BF16", 1, 2)}                             # name, elements and bytes of a block


def tensors(folder):
    """Name -> bytes, config."""
    data = pathlib.Path(folder, "model.safetensors").read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    table = json.loads(data[8:8 + n])
    table.pop("__metadata__", None)
    config = json.loads(pathlib.Path(folder, "config.json").read_text())
    return {name: data[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]]
            for name, t in table.items()}, config


def floats(data):
    return struct.unpack(f"<{len(data) // 4}f", data)


def pairs(data, heads, head_dim):
    """Rows of each head: 2i is half-row i, 2i+1 is half-row head_dim/2 + i."""
    row = len(data) // (heads * head_dim)
    rows = [data[i * row:(i + 1) * row] for i in range(heads * head_dim)]
    return b"".join(rows[h * head_dim + i // 2 + (i % 2) * (head_dim // 2)]
                    for h in range(heads) for i in range(head_dim))


class Gguf:
    """keys: name -> value; tensors: name -> (type, dims, bytes)."""

    def __init__(self, path):
        self.data, self.at = pathlib.Path(path).read_bytes(), 0
        magic, version, n_tensors, n_keys = self.take("4sIQQ")
        assert (magic, version) == (b"GGUF", 3)
        self.keys = {}
        for _ in range(n_keys):
            name = self.string()
            self.keys[name] = self.value(KINDS[self.take("I")[0]])
        infos = []
        for _ in range(n_tensors):
            name = self.string()
            dims = self.take(f"{self.take('I')[0]}Q")
            infos.append((name, dims, *self.take("IQ")))
        start = -(-self.at // 32) * 32
        self.tensors = {}
        for name, dims, kind, offset in infos:
            size = 1
            for d in dims:
                size *= d
            block, n_bytes = TYPES[kind][1:]
            begin = start + offset
            self.tensors[name] = kind, dims, self.data[begin:begin + size // block * n_bytes]

    def take(self, code):
        out = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return out

    def string(self):
        return self.take(f"{self.take('Q')[0]}s")[0].decode()

    def value(self, kind):
        if kind == "string":
            return self.string()
        if kind == "array":
            kind, n = self.take("IQ")
            return [self.value(KINDS[kind]) for _ in range(n)]
        return self.take(CODES[kind])[0]


def gguf_value(kind, value):
    if kind == "string":
        return struct.pack("<Q", len(value.encode())) + value.encode()
    if kind == "array":
        of, values = value
        return (struct.pack("<IQ", KINDS.index(of), len(values)) +
                b"".join(gguf_value(of, v) for v in values))
    return struct.pack("<" + CODES[kind], value)


def with_keys(path, more):
    """The bytes of a GGUF file with keys before its own: [(name, kind, value)]."""
    old = Gguf(path)
    data = old.data
    head = struct.unpack_from("<4sIQQ", data)
    keys = b"".join(gguf_value("string", name) + struct.pack("<I", KINDS.index(kind)) +
                    gguf_value(kind, value) for name, kind, value in more)
    out = struct.pack("<4sIQQ", *head[:3], head[3] + len(more)) + keys + data[24:old.at]
    return out.ljust(-(-len(out) // 32) * 32, b"\0") + data[-(-old.at // 32) * 32:]
