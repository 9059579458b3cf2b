#include "train/zo_replay.h"

#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "convert/adapter.h"
#include "sys/sys.h"
#include "train/adapter.h"
#include "train/zo_run.h"
#include "zo/ledger.h"

/* ---- what a ledger knows of its run ---------------------------------------------------------- */

/* Rows that decide which parameters there are and where they begin; heap. */
static aa_opt *about_rows(void) {
    aa_opt *rows = aa_heap_alloc(aa_opts_count(aa_train_rows) + 1, sizeof *rows);
    size_t n = 0;
    for (const aa_opt *row = aa_train_rows; rows && row->key; row++)
        if (!strcmp(row->group, "adapter") || !strcmp(row->key, "seed") ||
            !strcmp(row->key, "compact-vocab"))
            rows[n++] = *row;
    return rows;
}

aa_status aa_zo_about_write(const aa_train_options *o, aa_text *out, aa_err *err) {
    aa_train_options copy = *o;
    aa_opt *rows = about_rows();
    if (!rows) return aa_fail_memory(err, "a list of options", 0);
    aa_opts_write_json(&(aa_opts){.rows = rows, .values = &copy}, out);
    aa_heap_free(rows);
    return aa_text_status(out, err);
}

static aa_status read_about(aa_opts *opts, const aa_ledger_header *h, const char *path,
                            aa_err *err) {
    aa_opt *rows = about_rows();
    if (!rows) return aa_fail_memory(err, "a list of options", 0);
    aa_opts some = *opts;
    some.rows = rows;
    aa_status st = h->n_about ? aa_opts_read_json(&some, h->about, h->n_about, path, err)
                              : aa_fail(err, AA_EUNSUPPORTED,
                                        "'%s' does not say which adapter it is of", path);
    aa_heap_free(rows);
    if (!st) ((aa_train_options *)opts->values)->zo = h->config;
    return st;
}

aa_status aa_zo_ledger_path(char **out, const char *path, aa_err *err) {
    aa_sys_info info;
    int no = aa_sys_stat(&info, path);
    if (no) return aa_fail_errno(err, no, "cannot read", path);
    if (info.kind == AA_SYS_ABSENT) return aa_fail(err, AA_ENOTFOUND, "there is no '%s'", path);
    *out = info.kind == AA_SYS_DIR ? aa_path_join(path, "ledger") : aa_heap_strdup(path);
    return *out ? AA_OK : aa_fail_memory(err, "a path", 0);
}

/* ---- rebuilding ------------------------------------------------------------------------------ */

typedef struct rebuild {
    const char *ledger, *base;
    aa_cpu *cpu;
    aa_train_options o; aa_opts opts; bool has_opts;
    aa_source *source;
    aa_lora lora; aa_lora_site *sites;
    aa_arena arena;
    aa_model model;
    aa_digest digest;                     /* of the base */
    aa_lm_objective *objective;
    aa_zo *engine;
} rebuild;

static aa_status open_options(rebuild *r, aa_err *err) {
    aa_ledger_reader reader;
    AA_TRY(aa_opts_init(&r->opts, aa_train_rows, &r->o, err));
    r->has_opts = true;
    AA_TRY(aa_ledger_open(&reader, r->ledger, err));
    aa_status st = read_about(&r->opts, &reader.header, r->ledger, err);
    aa_ledger_reader_close(&reader);
    if (!st && r->o.compact_vocab)
        st = aa_fail(err, AA_EUNSUPPORTED,
                     "'%s' is of a run with a compact vocabulary, which its data decide: `autoane "
                     "train --resume` replays it, where they are", r->ledger);
    return st;
}

static aa_status open_model(rebuild *r, aa_err *err) {
    const bool adapter = r->o.adapter != AA_ADAPTER_NONE, floats = aa_zo_writes_matrices(&r->o.zo);
    const aa_lora *lora = adapter ? &r->lora : NULL;
    AA_TRY(aa_source_open(&r->source, r->base, err));
    if (adapter)
        AA_TRY(aa__adapter_of_options(&r->o, &r->source->config, &r->lora, &r->sites, err));
    AA_TRY(aa_model_init_lora(&r->model, &r->source->config, lora,
                              floats ? AA_MODEL_PARAMS : AA_MODEL_STORED, 1, r->cpu, &r->arena,
                              err));
    AA_TRY(aa_source_load(r->source, &r->model, err));
    if (adapter) aa_model_init_adapter(&r->model, r->cpu, (uint64_t)r->o.seed);
    return AA_OK;
}

static aa_status play(rebuild *r, aa_zo_rebuilt *done, aa_err *err) {
    AA_TRY(aa_source_weights_digest(r->source, &r->digest, err));
    AA_TRY(aa_lm_objective_open(&r->objective, &r->o.zo, &r->model, NULL, r->cpu, NULL, 1, err));
    AA_TRY(aa_zo_open(&r->engine, &r->o.zo, aa_lm_objective_of(r->objective), r->cpu, err));
    const double start_s = aa_sys_clock_s();
    AA_TRY(aa_zo_replay(r->engine, r->ledger, &r->digest, &done->replayed, err));
    done->wall_s = aa_sys_clock_s() - start_s;
    done->digest = aa_zo_digest(r->engine);
    done->moved = aa_zo_moved(r->engine);
    done->whole = aa_zo_writes_matrices(&r->o.zo);
    aa_lm_objective_sync(r->objective);
    return AA_OK;
}

static aa_status write_adapter(const rebuild *r, const char *dir, aa_err *err) {
    aa_adapter *a = NULL;
    char base[AA_SYS_PATH];
    AA_TRY(aa_adapter_of_model(&a, &r->model, aa_sys_real_path(base, r->base) ? r->base : base,
                               err));
    a->base_digest = r->digest;
    aa_status st = aa_peft_write(dir, a, &r->model.config,
                                 &(aa_convert_options){.type = AA_TYPE_COUNT}, err);
    aa_adapter_close(a);
    return st;
}

static aa_status write_model(const rebuild *r, const char *dir, aa_err *err) {
    aa_tokenizer *t = NULL;
    bool exact;
    AA_TRY(aa_make_dirs(dir, err));
    AA_TRY(aa_source_tokenizer(r->source, &t, err));
    aa_status st = aa_hf_write(dir, &r->model,
                               &(aa_hf_options){.tokenizer = t, .cpu = r->cpu,
                                                .chat_template = r->source->chat_template},
                               &exact, err);
    aa_tokenizer_free(t);
    return st;
}

static aa_status write_out(const rebuild *r, const char *out, bool whole, aa_err *err) {
    aa_sys_info info;
    if (aa_sys_stat(&info, out) == 0 && info.kind != AA_SYS_ABSENT)
        return aa_fail(err, AA_EUSAGE, "'%s' is there already: choose another --out", out);
    char *tmp = aa_heap_printf("%s.tmp", out);
    if (!tmp) return aa_fail_memory(err, "a path", 0);
    int no = aa_sys_remove_tree(tmp);
    aa_status st = no ? aa_fail_errno(err, no, "cannot remove", tmp)
                   : whole ? write_model(r, tmp, err) : write_adapter(r, tmp, err);
    if (!st && (no = aa_sys_rename(tmp, out))) st = aa_fail_errno(err, no, "cannot write", out);
    if (st) (void)aa_sys_remove_tree(tmp);
    aa_heap_free(tmp);
    return st;
}

aa_status aa_zo_rebuild(const char *ledger, const char *base, const char *out, aa_cpu *cpu,
                        aa_zo_rebuilt *done, aa_err *err) {
    rebuild r = {.base = base, .cpu = cpu};
    char *path = NULL;
    *done = (aa_zo_rebuilt){0};
    aa_arena_init(&r.arena, "replay");
    aa_status st = aa_zo_ledger_path(&path, ledger, err);
    r.ledger = path;
    if (!st) st = open_options(&r, err);
    if (!st) st = open_model(&r, err);
    if (!st) st = play(&r, done, err);
    if (!st && out) st = write_out(&r, out, done->whole, err);
    aa_zo_close(r.engine);
    aa_lm_objective_close(r.objective);
    aa_arena_release(&r.arena);
    aa_heap_free(r.sites);
    aa_source_close(r.source);
    if (r.has_opts) aa_opts_release(&r.opts);
    aa_heap_free(path);
    return st;
}
