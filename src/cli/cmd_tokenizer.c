/* autoane tokenizer train|encode|decode|convert|chat */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "cli/cli.h"
#include "data/tokens.h"

typedef struct tokenizer_values {
    char *data, *tokenizer, *out, *text, *ids, *template, *date;
    int64_t vocab, sample, threads;
    int split;
    bool specials, answer;
} tokenizer_values;
#define AT(field) offsetof(tokenizer_values, field)
#define TOKENIZER_ROW                                                                              \
    {"tokenizer", "tokenizer", AA_OPT_STRING, AT(tokenizer), NULL, 0, 0, 0, "FILE|MODEL|bytes",    \
     "tokenizer.json, tokenizer.bin of llama2.c, or a model that has one"}

/* ---- train ----------------------------------------------------------------------------------- */

static const aa_opt train_rows[] = {
    {"data", "data", AA_OPT_STRING, AT(data), NULL, 0, 0, 0, "FILE|DIR",
     "text, JSONL or directory to learn from"},
    {"sample", "data", AA_OPT_INT, AT(sample), "100M", 1, 1e12, 0, "BYTES",
     "read at most this much text, spread evenly"},
    {"vocab", "tokenizer", AA_OPT_INT, AT(vocab), "4096", 257, 1000000, 0, "N", "ids to make"},
    {"split", "tokenizer", AA_OPT_CHOICE, AT(split), "smollm", 0, 0, 0,
     "gpt2|smollm|llama3|qwen2|none", "how text is cut into pieces"},
    {"out", "tokenizer", AA_OPT_STRING, AT(out), "tokenizer.json", 0, 0, 0, "FILE",
     "where to write it"},
    CLI_THREADS_ROW(AT(threads)),
    {0}};

static aa_status train_and_write(const tokenizer_values *v, aa_pool *pool, cli_call *call,
                                 aa_err *err) {
    aa_text sample = {0}, json = {0};
    aa_tokenizer *t = NULL;
    aa_status st = aa_source_text(v->data, (size_t)v->sample, &sample, err);
    if (!st)
        st = aa_tokenizer_train(&t, pool, sample.data, sample.len, (size_t)v->vocab,
                                (aa_split)v->split, err);
    if (!st) st = aa_tokenizer_write_json(t, &json, err);
    if (!st) st = aa_file_write(v->out, json.data, json.len, err);
    if (!st && call->json) {
        aa_text_add(&call->out, "{");
        cli_key_string(&call->out, "out", v->out);
        cli_key_int(&call->out, "vocab", (int64_t)aa_tokenizer_vocab(t));
        cli_key_int(&call->out, "bytes", (int64_t)sample.len);
        aa_text_add(&call->out, "}\n");
    } else if (!st)
        aa_text_printf(&call->out, "%s: %zu ids from %.1f MB of text\n", v->out,
                       aa_tokenizer_vocab(t), (double)sample.len * 1e-6);
    aa_tokenizer_free(t);
    aa_text_release(&sample);
    aa_text_release(&json);
    return st;
}

static aa_status run_train(cli_call *call, aa_err *err) {
    const tokenizer_values *v = call->opts.values;
    aa_pool *pool = NULL;
    AA_TRY(cli_need(v->data, "data", "the text to learn from", err));
    AA_TRY(aa_pool_new(&pool, (int)v->threads, err));
    aa_status st = train_and_write(v, pool, call, err);
    aa_pool_free(pool);
    return st;
}

const cli_command cli_tokenizer_train = {
    .words = "tokenizer train",
    .group = "data",
    .arguments = "",
    .summary = "learn a byte-level BPE tokenizer from text",
    .rows = train_rows,
    .values_size = sizeof(tokenizer_values),
    .run = run_train,
    .notes =
        "The result is a tokenizer.json that the tokenizers and transformers libraries open.\n",
};

/* ---- encode ---------------------------------------------------------------------------------- */

static const aa_opt encode_rows[] = {
    TOKENIZER_ROW,
    {"data", "text", AA_OPT_STRING, AT(data), NULL, 0, 0, 0, "FILE", "text to encode, as it is"},
    {"text", "text", AA_OPT_STRING, AT(text), NULL, 0, 0, 0, "TEXT", "text to encode"},
    {"specials", "text", AA_OPT_BOOL, AT(specials), "no", 0, 0, 0, NULL,
     "recognise special tokens in the text"},
    CLI_THREADS_ROW(AT(threads)),
    {0}};

static aa_status encode(const tokenizer_values *v, const aa_tokenizer *t, aa_pool *pool,
                        cli_call *call, aa_err *err) {
    aa_sys_map map = {0};
    aa_ids ids = {0};
    if (v->data) AA_TRY(aa_map_open(&map, v->data, err));
    const char *text = v->data ? (const char *)map.data : v->text;
    size_t n = v->data ? map.size_bytes : strlen(v->text);
    aa_status st = aa_encode_parallel(
        t, pool, text, n, v->specials ? AA_ENCODE_SPECIALS : AA_ENCODE_PLAIN, &ids, err);
    if (!st && call->json) {
        aa_text_add(&call->out, "{");
        cli_key_ids(&call->out, "ids", ids.data, ids.len);
        cli_key_int(&call->out, "bytes", (int64_t)n);
        aa_text_add(&call->out, "}\n");
    } else if (!st) {
        for (size_t i = 0; i < ids.len; i++)
            aa_text_printf(&call->out, i ? " %d" : "%d", (int)ids.data[i]);
        aa_text_add(&call->out, "\n");
    }
    aa_ids_release(&ids);
    aa_sys_map_close(&map);
    return st;
}

static aa_status run_encode(cli_call *call, aa_err *err) {
    const tokenizer_values *v = call->opts.values;
    aa_tokenizer *t = NULL;
    aa_pool *pool = NULL;
    if (!v->data == !v->text)
        return aa_fail(err, AA_EUSAGE, "give either --data FILE or --text TEXT");
    AA_TRY(cli_open_tokenizer(&t, v->tokenizer, err));
    aa_status st = aa_pool_new(&pool, (int)v->threads, err);
    if (!st) st = encode(v, t, pool, call, err);
    aa_pool_free(pool);
    aa_tokenizer_free(t);
    return st;
}

const cli_command cli_tokenizer_encode = {
    .words = "tokenizer encode", .group = "data", .arguments = "", .summary = "ids of a text",
    .rows = encode_rows, .values_size = sizeof(tokenizer_values), .run = run_encode,
};

/* ---- decode ---------------------------------------------------------------------------------- */

static const aa_opt decode_rows[] = {
    TOKENIZER_ROW,
    {"ids", "text", AA_OPT_STRING, AT(ids), NULL, 0, 0, 0, "\"N N ...\"",
     "ids to decode, separated by blanks or commas"},
    {"specials", "text", AA_OPT_BOOL, AT(specials), "no", 0, 0, 0, NULL,
     "print special tokens too"},
    {0}};

static aa_status decode(const tokenizer_values *v, const aa_tokenizer *t, aa_text *out,
                        aa_err *err) {
    unsigned flags = AA_DECODE_START | (v->specials ? AA_DECODE_SPECIALS : 0);
    for (const char *s = v->ids; *s;) {
        if (*s == ' ' || *s == ',' || *s == '\n') { s++; continue; }
        char *end;
        errno = 0;
        long id = strtol(s, &end, 10);
        if (end == s || errno || id < 0 || (unsigned long)id >= aa_tokenizer_vocab(t))
            return aa_fail(err, AA_EUSAGE, "--ids: '%.20s' is not an id from 0 to %zu", s,
                           aa_tokenizer_vocab(t) - 1);
        int32_t one = (int32_t)id;
        AA_TRY(aa_decode(t, &one, 1, flags, out, err));
        if (out->len) flags &= ~(unsigned)AA_DECODE_START;
        s = end;
    }
    return aa_text_status(out, err);
}

static aa_status run_decode(cli_call *call, aa_err *err) {
    const tokenizer_values *v = call->opts.values;
    aa_tokenizer *t = NULL;
    aa_text text = {0};
    AA_TRY(cli_need(v->ids, "ids", "the ids to decode", err));
    AA_TRY(cli_open_tokenizer(&t, v->tokenizer, err));
    aa_status st = decode(v, t, &text, err);
    if (!st && call->json) {
        aa_text_add(&call->out, "{");
        aa_text_json_key(&call->out, "text");
        aa_text_json_string(&call->out, text.data ? text.data : "", text.len);
        aa_text_add(&call->out, "}\n");
    } else if (!st) {
        aa_text_add_bytes(&call->out, text.data, text.len);
        aa_text_add(&call->out, "\n");
    }
    aa_text_release(&text);
    aa_tokenizer_free(t);
    return st;
}

const cli_command cli_tokenizer_decode = {
    .words = "tokenizer decode", .group = "data", .arguments = "", .summary = "text of ids",
    .rows = decode_rows, .values_size = sizeof(tokenizer_values), .run = run_decode,
};

/* ---- convert --------------------------------------------------------------------------------- */

static const aa_opt convert_rows[] = {
    TOKENIZER_ROW,
    {"out", "tokenizer", AA_OPT_STRING, AT(out), "tokenizer.json", 0, 0, 0, "FILE",
     "where to write it; a name that ends with .bin: as llama2.c has it"},
    {0}};

static aa_status run_convert(cli_call *call, aa_err *err) {
    const tokenizer_values *v = call->opts.values;
    aa_tokenizer *t = NULL;
    aa_text file = {0};
    size_t n = strlen(v->out);
    AA_TRY(cli_open_tokenizer(&t, v->tokenizer, err));
    aa_status st = n > 4 && strcmp(v->out + n - 4, ".bin") == 0
                       ? aa_tokenizer_write_llama2c(t, &file, err)
                       : aa_tokenizer_write_json(t, &file, err);
    if (!st) st = aa_file_write(v->out, file.data, file.len, err);
    if (!st && call->json) {
        aa_text_add(&call->out, "{");
        cli_key_string(&call->out, "out", v->out);
        cli_key_int(&call->out, "vocab", (int64_t)aa_tokenizer_vocab(t));
        aa_text_add(&call->out, "}\n");
    } else if (!st)
        aa_text_printf(&call->out, "%s: %zu ids\n", v->out, aa_tokenizer_vocab(t));
    aa_text_release(&file);
    aa_tokenizer_free(t);
    return st;
}

const cli_command cli_tokenizer_convert = {
    .words = "tokenizer convert", .group = "data", .arguments = "",
    .summary = "write a tokenizer in another format",
    .rows = convert_rows, .values_size = sizeof(tokenizer_values), .run = run_convert,
};

/* ---- chat ------------------------------------------------------------------------------------ */

static const aa_opt chat_rows[] = {
    {"tokenizer", "tokenizer", AA_OPT_STRING, AT(tokenizer), NULL, 0, 0, 0, "FILE|MODEL|bytes",
     "tokenizer.json, or the model whose template is wanted"},
    {"template", "text", AA_OPT_STRING, AT(template), NULL, 0, 0, 0, "FILE",
     "Jinja source of the template, instead of the model's"},
    {"data", "text", AA_OPT_STRING, AT(data), NULL, 0, 0, 0, "FILE",
     "JSON: [{\"role\": \"user\", \"content\": \"...\"}, ...]"},
    {"answer", "text", AA_OPT_BOOL, AT(answer), "yes", 0, 0, 0, NULL,
     "end with what comes before the next answer"},
    {"date", "text", AA_OPT_STRING, AT(date), NULL, 0, 0, 0, "DATE",
     "for templates that ask for the day's (\"26 Jul 2024\")"},
    {0}};

static aa_status read_message(const json_t *o, size_t i, const char *path, aa_chat_message *out,
                              aa_err *err) {
    static const char *const roles[] = {"system", "user", "assistant"};
    const char *role = json_string_value(json_object_get(o, "role"));
    out->content = json_string_value(json_object_get(o, "content"));
    for (int r = 0; role && out->content && r < 3; r++) {
        if (strcmp(role, roles[r]) != 0) continue;
        out->role = (aa_chat_role)r;
        return AA_OK;
    }
    return aa_fail(err, AA_EFORMAT, "%s: message %zu must have a \"role\" (system, user or "
                   "assistant) and a \"content\", both strings", path, i + 1);
}

static aa_status print_chat(const tokenizer_values *v, const aa_chat *chat, const json_t *list,
                            cli_call *call, aa_err *err) {
    size_t n = json_array_size(list);
    aa_text text = {0};
    aa_chat_message *m = aa_heap_alloc(n + 1, sizeof *m);
    aa_chat_options o = {.answer = v->answer, .date = v->date,
                         .answers = aa_heap_alloc(n + 1, sizeof *o.answers)};
    aa_status st = m && o.answers ? AA_OK : aa_fail_memory(err, "messages", n * sizeof *m);
    if (!st && !json_is_array(list))
        st = aa_fail(err, AA_EFORMAT, "%s: messages must be a JSON array", v->data);
    for (size_t i = 0; !st && i < n; i++)
        st = read_message(json_array_get(list, i), i, v->data, &m[i], err);
    if (!st) st = aa_chat_render(chat, m, n, &o, &text, err);
    if (!st && call->json) {
        aa_text_add(&call->out, "{");
        cli_key_string(&call->out, "template", aa_chat_name(chat));
        aa_text_json_key(&call->out, "text");
        aa_text_json_string(&call->out, text.data ? text.data : "", text.len);
        aa_text_json_key(&call->out, "answers");
        aa_text_add(&call->out, "[");
        for (size_t i = 0; i < o.n_answers; i++)
            aa_text_printf(&call->out, "%s[%zu,%zu]", i ? "," : "", o.answers[i].begin,
                           o.answers[i].end);
        aa_text_add(&call->out, "]}\n");
    } else if (!st)
        aa_text_add_bytes(&call->out, text.data, text.len);
    aa_heap_free(m);
    aa_heap_free(o.answers);
    aa_text_release(&text);
    return st;
}

static aa_status run_chat(cli_call *call, aa_err *err) {
    const tokenizer_values *v = call->opts.values;
    aa_tokenizer *t = NULL;
    char *jinja = NULL;
    aa_chat *chat = NULL;
    json_t *list = NULL;
    AA_TRY(cli_need(v->data, "data", "the messages", err));
    AA_TRY(aa_json_load(&list, v->data, err));
    aa_status st = cli_open_tokenizer_and_template(&t, &jinja, v->tokenizer, v->template, err);
    if (!st) st = aa_chat_new(&chat, jinja, t, err);
    if (!st) st = print_chat(v, chat, list, call, err);
    aa_chat_free(chat);
    aa_tokenizer_free(t);
    aa_heap_free(jinja);
    json_decref(list);
    return st;
}

const cli_command cli_tokenizer_chat = {
    .words = "tokenizer chat", .group = "data", .arguments = "",
    .summary = "a conversation as the text that a chat model reads",
    .rows = chat_rows, .values_size = sizeof(tokenizer_values), .run = run_chat,
};
