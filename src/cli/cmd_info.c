/* autoane info: what a file, a model, a run or this machine is. */
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "cli/cli.h"
#include "convert/adapter.h"
#include "convert/source.h"
#include "report/report.h"

typedef struct info_values { int64_t threads; bool all; } info_values;
static const aa_opt info_rows[] = {
    {"all", "output", AA_OPT_BOOL, offsetof(info_values, all), "no", 0, 0, 0, NULL,
     "of a model: also what its files say of it, and each tensor with its digest"},
    CLI_THREADS_ROW(offsetof(info_values, threads)),
    {0}};

static bool ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcmp(s + n - m, tail) == 0;
}

/* ---- machine --------------------------------------------------------------------------------- */

static aa_status machine(cli_call *call, aa_err *err) {
    aa_sys_cpu c;
    aa_cpu *cpu;
    aa_text *out = &call->out;
    aa_sys_cpu_info(&c);
    AA_TRY(cli_open_cpu(&cpu, ((const info_values *)call->opts.values)->threads, err));
    double peak = aa_cpu_peak_gflops(cpu, 0.5), gbs = aa_cpu_read_gbs(cpu, 0.5);
    if (call->json) {
        aa_text_add(out, "{");
        cli_key_string(out, "cpu", c.brand);
        cli_key_int(out, "cores", c.n_cores);
        cli_key_int(out, "threads", aa_cpu_threads(cpu));
        cli_key_string(out, "isa", aa_isa_name(aa_cpu_isa(cpu)));
        cli_key_real(out, "peak_gflops", peak);
        cli_key_real(out, "read_gbs", gbs);
        cli_key_int(out, "memory_bytes", (int64_t)aa_sys_memory_total());
        cli_key_int(out, "available_bytes", (int64_t)aa_sys_memory_available());
        aa_text_add(out, "}\n");
    } else {
        aa_text_printf(out, "processor   %s, %d cores; caches %zu KiB, %zu KiB, %zu KiB\n", c.brand,
                       c.n_cores, c.l1d_bytes / 1024, c.l2_bytes / 1024, c.l3_bytes / 1024);
        aa_text_printf(out, "vectors     %s%s%s%s%s%s; in use: %s\n", c.avx512 ? "avx512 " : "",
                       c.avx512_bf16 ? "avx512_bf16 " : "", c.amx_bf16 ? "amx " : "",
                       c.avx2_fma ? "avx2 " : "", c.neon ? "neon " : "",
                       c.neon_bf16 ? "neon_bf16 " : "",
                       aa_isa_name(aa_cpu_isa(cpu)));
        aa_text_printf(out, "peak        %.1f GFLOP/s with %d threads, f32 multiply-add\n", peak,
                       aa_cpu_threads(cpu));
        aa_text_printf(out, "memory      %.1f GiB, %.1f GiB available, read at %.1f GB/s\n",
                       (double)aa_sys_memory_total() / 0x1p30,
                       (double)aa_sys_memory_available() / 0x1p30, gbs);
    }
    aa_cpu_free(cpu);
    return AA_OK;
}

static aa_status presets(cli_call *call, aa_err *err) {
    aa_text *out = &call->out;
    if (call->json) aa_text_add(out, "{\"presets\":[");
    for (const aa_preset *p = aa_presets; p->name; p++) {
        aa_config shape = p->config, *c = &shape;
        if (!c->vocab) c->vocab = 4096;
        AA_TRY(aa_config_resolve(c, err));
        if (call->json) {
            aa_text_add(out, p == aa_presets ? "{" : ",{");
            cli_key_string(out, "name", p->name);
            cli_key_string(out, "what", p->what);
            cli_key_int(out, "dim", c->dim);
            cli_key_int(out, "layers", c->layers);
            aa_text_add(out, "}");
        } else
            aa_text_printf(out,
                           "%-18s %5lld wide %3lld blocks %3lld/%-3lld heads of %-4lld ffn %-5lld "
                           "seq %-5lld  %s\n",
                           p->name, (long long)c->dim, (long long)c->layers, (long long)c->heads,
                           (long long)c->kv_heads, (long long)c->head_dim, (long long)c->ffn,
                           (long long)c->seq, p->what);
    }
    if (call->json) aa_text_add(out, "]}\n");
    return AA_OK;
}

/* ---- files ----------------------------------------------------------------------------------- */

static aa_status tokenizer(cli_call *call, const char *path, aa_err *err) {
    static const char *const kinds[] = {[AA_TOKENIZER_BYTES] = "byte",
                                        [AA_TOKENIZER_BPE] = "byte-level BPE",
                                        [AA_TOKENIZER_SPM] = "SentencePiece"};
    aa_tokenizer *t;
    AA_TRY(aa_tokenizer_load(&t, path, err));
    if (call->json) {
        aa_text_add(&call->out, "{");
        cli_key_int(&call->out, "vocab", (int64_t)aa_tokenizer_vocab(t));
        cli_key_int(&call->out, "bos", aa_tokenizer_bos(t));
        cli_key_int(&call->out, "eos", aa_tokenizer_eos(t));
        aa_text_add(&call->out, "}\n");
    } else
        aa_text_printf(&call->out, "%s: %s tokenizer, %zu ids, bos %d, eos %d\n", path,
                       kinds[aa_tokenizer_kind_of(t)],
                       aa_tokenizer_vocab(t), (int)aa_tokenizer_bos(t), (int)aa_tokenizer_eos(t));
    aa_tokenizer_free(t);
    return AA_OK;
}

static aa_status tokens(cli_call *call, const char *path, aa_err *err) {
    aa_tokens t;
    AA_TRY(aa_tokens_open(&t, path, 0, -1, false, err));
    if (call->json) {
        aa_text_add(&call->out, "{");
        cli_key_int(&call->out, "tokens", (int64_t)t.n_tokens);
        cli_key_int(&call->out, "documents", (int64_t)t.n_documents);
        cli_key_int(&call->out, "bytes", (int64_t)t.n_bytes);
        aa_text_add(&call->out, "}\n");
    } else
        aa_text_printf(
            &call->out,
            "%s: token file, %llu tokens, %llu documents; `autoane data inspect` looks inside\n",
            path, (unsigned long long)t.n_tokens, (unsigned long long)t.n_documents);
    aa_tokens_close(&t);
    return AA_OK;
}

static aa_status run_directory(cli_call *call, const char *path, aa_err *err) {
    aa_journal j;
    AA_TRY(aa_journal_open(&j, path, err));
    if (call->json) aa_report_json(&j, &call->out);
    else aa_report_text(&j, aa_sys_terminal_width(1), &call->out);
    aa_journal_release(&j);
    return AA_OK;
}

static aa_status describe(cli_call *call, aa_err *err) {
    if (!call->n_positional || strcmp(call->positional[0], "machine") == 0)
        return machine(call, err);
    const char *path = call->positional[0];
    bool all = ((const info_values *)call->opts.values)->all;
    if (strcmp(path, "presets") == 0) return presets(call, err);
    aa_sys_info info;
    int no = aa_sys_stat(&info, path);
    if (no) return aa_fail_errno(err, no, "cannot read", path);
    if (info.kind == AA_SYS_ABSENT)
        return aa_fail(err, AA_ENOTFOUND,
                       "there is no '%s'; give a file, a directory, 'presets' or 'machine'", path);
    if (aa_adapter_is(path)) return cli_info_adapter(call, path, err);
    if (info.kind == AA_SYS_DIR) {
        char *journal = aa_path_join(path, "journal.jsonl");
        if (!journal) return aa_fail_memory(err, "a path", 0);
        bool is_run = aa_sys_stat(&info, journal) == 0 && info.kind == AA_SYS_FILE;
        aa_heap_free(journal);
        return is_run ? run_directory(call, path, err) : cli_info_model(call, path, all, err);
    }
    if (aa_source_is_file(path) || ends_with(path, ".gguf"))
        return cli_info_model(call, path, all, err);
    if (ends_with(path, ".safetensors")) return cli_info_safetensors(call, path, all, err);
    if (ends_with(path, ".jsonl")) return run_directory(call, path, err);
    if (ends_with(path, ".json") || aa_tokenizer_is_llama2c(path))
        return tokenizer(call, path, err);
    if (aa_tokens_is_file(path)) return tokens(call, path, err);
    return aa_fail(err, AA_EUNSUPPORTED,
                   "'%s' is none of: run, model or adapter directory, model file (.gguf, BLZT, "
                   "llama2.c), .safetensors, tokenizer .json or tokenizer.bin, journal .jsonl, "
                   "token file",
                   path);
}

static aa_status run_info(cli_call *call, aa_err *err) {
    aa_status st = describe(call, err);
    if (call->out.data) aa_disarm(call->out.data);
    return st;
}

const cli_command cli_info = {
    .words = "info",
    .group = "use",
    .arguments = "[FILE|DIR|presets|machine]",
    .summary = "what a file, a model, a run or this machine is",
    .rows = info_rows,
    .values_size = sizeof(info_values),
    .max_positional = 1,
    .run = run_info,
};
