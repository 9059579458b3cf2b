/* autoane convert: a model from one file format to another. */
#include <string.h>
#include "cli/cli.h"
#include "convert/convert.h"

typedef struct convert_values { int to, dtype; int64_t shard_size, threads; char *name; }
    convert_values;

/* In the order of the choices; the first one is guessed, by how OUT ends ("": any). */
#define FORMATS "auto|gguf|hf|blzt|llama2c|llama2c-v1"
static const struct { const char *end; aa_model_writer *write; } formats[] = {
    {NULL, NULL}, {".gguf", aa_gguf_write}, {"", aa_hf_convert},
    {"", aa_blzt_write}, {"", aa_llama2c_write}, {"", aa_llama2c_v1_write}};

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
    CLI_THREADS_ROW(AT(threads)),
    {0}};

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);

    return n >= m && strcmp(s + n - m, end) == 0;
}

static aa_model_writer *writer_of(int to, const char *out) {
    for (size_t i = 1; i < sizeof formats / sizeof *formats && !to; i++)
        if (ends_with(out, formats[i].end)) to = (int)i;
    return formats[to].write;
}

static aa_status convert(cli_call *call, aa_source *s, aa_pool *pool, aa_err *err) {
    const convert_values *v = call->opts.values;
    const char *out = call->positional[1];
    aa_model_writer *write = writer_of(v->to, out);
    const aa_convert_options o = {.type = dtypes[v->dtype].type, .mixed = dtypes[v->dtype].mixed,
                                  .shard_bytes = (uint64_t)v->shard_size, .name = v->name,
                                  .pool = pool};
    bool modelfile = false;

    AA_TRY(write(out, s, &o, err));
    if (write == aa_gguf_write) AA_TRY(aa_ollama_write(out, s, &modelfile, err));
    if (call->json) {
        aa_text_add(&call->out, "{");
        cli_key_string(&call->out, "out", out);
        aa_text_json_key(&call->out, "modelfile");
        aa_text_json_bool(&call->out, modelfile);
        aa_text_add(&call->out, "}\n");
    } else
        aa_text_printf(&call->out, "%s written%s\n", out,
                       modelfile ? ", and a Modelfile for Ollama beside it" : "");
    return AA_OK;
}

static aa_status run_convert(cli_call *call, aa_err *err) {
    const convert_values *v = call->opts.values;
    aa_pool *pool = NULL;
    aa_source *s = NULL;
    aa_status st = aa_source_open(&s, call->positional[0], err);

    if (!st) st = aa_pool_new(&pool, (int)v->threads, err);
    if (!st) st = convert(call, s, pool, err);
    aa_pool_free(pool);
    aa_source_close(s);
    return st;
}

const cli_command cli_convert = {
    .words = "convert", .group = "use", .arguments = "MODEL OUT",
    .summary = ("a model in another format: GGUF (llama.cpp, Ollama), Hugging Face, "
                "llama2.c, BLZT"), .rows = convert_rows,
    .values_size = sizeof(convert_values), .min_positional = 2, .max_positional = 2,
    .run = run_convert,
};
