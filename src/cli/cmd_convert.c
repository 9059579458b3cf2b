/* autoane convert: a model, or an adapter, from one file format to another. */
#include <string.h>
#include "base/memory.h"
#include "cli/cli.h"
#include "convert/adapter.h"
#include "convert/convert.h"
#include "sys/sys.h"

typedef struct convert_values {
    int to, dtype;
    int64_t shard_size, threads;
    char *name, *merge, *base;
} convert_values;

/* In the order of the choices; the first one is guessed, by how OUT ends ("": any). */
#define FORMATS "auto|gguf|hf|blzt|llama2c|llama2c-v1"
typedef struct format {
    const char *end;
    aa_model_writer *write;
    aa_adapter_writer *write_adapter;
} format;
static const format formats[] = {{NULL, NULL, NULL},
                                 {".gguf", aa_gguf_write, aa_adapter_gguf_write},
                                 {"", aa_hf_convert, aa_peft_write},
                                 {"", aa_blzt_write, NULL},
                                 {"", aa_llama2c_write, NULL},
                                 {"", aa_llama2c_v1_write, NULL}};

#define AT(field) offsetof(convert_values, field)
#define DTYPES "keep|f32|f16|bf16|q8_0|q4_0|q6_k|q4_k|q4_k_m"
static const struct { aa_type type; bool mixed; } dtypes[] = {          /* in that order */
    {AA_TYPE_COUNT, false}, {AA_TYPE_F32, false},  {AA_TYPE_F16, false},
    {AA_TYPE_BF16, false},  {AA_TYPE_Q8_0, false}, {AA_TYPE_Q4_0, false},
    {AA_TYPE_Q6_K, false},  {AA_TYPE_Q4_K, false}, {AA_TYPE_Q4_K, true}};

static const aa_opt convert_rows[] = {
    {"to", "output", AA_OPT_CHOICE, AT(to), "auto", 0, 0, 0, FORMATS,
     "format; auto: GGUF if OUT ends in .gguf, else a Hugging Face directory"},
    {"dtype", "output", AA_OPT_CHOICE, AT(dtype), "keep", 0, 0, 0, DTYPES,
     "type of the matrices; keep: as they are"},
    {"shard-size", "output", AA_OPT_INT, AT(shard_size), "0", 0, 1e15, 0, "BYTES",
     "most weights in one file, 2000M say; 0: all"},
    {"name", "output", AA_OPT_STRING, AT(name), NULL, 0, 0, 0, "NAME",
     "what a GGUF file says the model is called; its own name if not given"},
    {"merge", "adapters", AA_OPT_STRING, AT(merge), NULL, 0, 0, 0, "ADAPTER|ADAPTER...",
     "what to merge into the model: PEFT directories, GGUF adapters; one after the other"},
    {"base", "adapters", AA_OPT_STRING, AT(base), NULL, 0, 0, 0, "MODEL",
     "if an adapter is converted: the model it was made for; else the one it names"},
    CLI_THREADS_ROW(AT(threads)),
    {0}};

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);

    return n >= m && strcmp(s + n - m, end) == 0;
}

static const format *format_of(int to, const char *out) {
    for (size_t i = 1; i < sizeof formats / sizeof *formats && !to; i++)
        if (ends_with(out, formats[i].end)) to = (int)i;
    return &formats[to];
}

static aa_convert_options options_of(const convert_values *v, aa_pool *pool) {
    return (aa_convert_options){.type = dtypes[v->dtype].type, .mixed = dtypes[v->dtype].mixed,
                                .shard_bytes = (uint64_t)v->shard_size, .name = v->name,
                                .pool = pool, .stoppable = true};
}

/* Merges the adapters of a list, one after the other. */
static aa_status merge(aa_source *s, const char *list, aa_err *err) {
    while (list && *list) {
        size_t n = strcspn(list, "|");
        char *path = aa_heap_printf("%.*s", (int)n, list);
        aa_adapter *a = NULL;
        aa_status st = path ? aa_adapter_open(&a, path, err) : aa_fail_memory(err, "a path", n);

        if (!st) st = aa_source_merge(s, a, err);
        if (st) aa_adapter_close(a);
        aa_heap_free(path);
        if (st) return st;
        list += n + (list[n] == '|');
    }
    return AA_OK;
}

static aa_status convert_model(cli_call *call, aa_pool *pool, bool *modelfile, aa_err *err) {
    const convert_values *v = call->opts.values;
    const char *out = call->positional[1];
    const format *f = format_of(v->to, out);
    const aa_convert_options o = options_of(v, pool);
    aa_source *s = NULL;
    aa_status st = aa_source_open(&s, call->positional[0], err);

    if (!st) st = merge(s, v->merge, err);
    if (!st) st = f->write(out, s, &o, err);
    if (!st && f->write == aa_gguf_write) st = aa_ollama_write(out, s, modelfile, err);
    aa_source_close(s);
    return st;
}

/* What the adapter says of its sizes is the base's to confirm. */
static aa_status convert_adapter(cli_call *call, aa_pool *pool, aa_err *err) {
    const convert_values *v = call->opts.values;
    const aa_convert_options o = options_of(v, pool);
    aa_adapter_writer *write = format_of(v->to, call->positional[1])->write_adapter;
    aa_adapter *a = NULL;
    aa_source *s = NULL;

    if (!write)
        return aa_fail(err, AA_EUNSUPPORTED, "'%s' is an adapter, and that format is for models: "
                       "choose --to gguf or --to hf", call->positional[0]);
    if (v->merge)
        return aa_fail(err, AA_EUSAGE, "'%s' is an adapter; --merge is for models",
                       call->positional[0]);
    aa_status st = aa_adapter_open(&a, call->positional[0], err);
    if (!st) st = v->base ? aa_source_open(&s, v->base, err) : aa_adapter_open_base(a, &s, err);
    if (!st) {
        aa_config c = s->config;

        c.vocab = (int64_t)s->full_vocab;
        st = aa_adapter_bind(a, &c, err);
        if (!st && !a->base_name && !(a->base_name = aa_heap_strdup(v->base)))
            st = aa_fail_memory(err, "a path", strlen(v->base));
        if (!st) st = write(call->positional[1], a, &c, &o, err);
    }
    aa_source_close(s);
    aa_adapter_close(a);
    return st;
}

static aa_status run_convert(cli_call *call, aa_err *err) {
    const convert_values *v = call->opts.values;
    bool adapter = aa_adapter_is(call->positional[0]), modelfile = false;
    aa_pool *pool = NULL;
    aa_sys_interrupt_install();
    aa_status st = aa_pool_new(&pool, (int)v->threads, err);

    if (!st) st = adapter ? convert_adapter(call, pool, err)
                          : convert_model(call, pool, &modelfile, err);
    aa_pool_free(pool);
    if (st) return st;
    if (call->json) {
        aa_text_add(&call->out, "{");
        cli_key_string(&call->out, "out", call->positional[1]);
        aa_text_json_key(&call->out, "modelfile");
        aa_text_json_bool(&call->out, modelfile);
        aa_text_add(&call->out, "}\n");
    } else
        aa_text_printf(&call->out, "%s written%s\n", call->positional[1],
                       modelfile ? ", and a Modelfile for Ollama beside it" : "");
    return AA_OK;
}

const cli_command cli_convert = {
    .words = "convert", .group = "use", .arguments = "MODEL|ADAPTER OUT",
    .summary = ("a model or adapter in another format: GGUF (llama.cpp, Ollama), Hugging Face, "
                "llama2.c, BLZT"),
    .rows = convert_rows,
    .values_size = sizeof(convert_values), .min_positional = 2, .max_positional = 2,
    .run = run_convert,
};
