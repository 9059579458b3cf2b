#include "train/checkpoint.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "convert/adapter.h"
#include "formats/safetensors.h"

#define STATE_FILE "train_state.safetensors"
#define POSITION_FILE "run.json"
#define POSITION_VERSION 1
#define NO_DIGEST "00000000000000000000000000000000"

/* ---- position: one row per field, so that writing and reading cannot drift apart ------------- */

typedef enum { FIELD_U64, FIELD_REAL, FIELD_DIGEST } field_type;
static const struct { const char *key; field_type type; size_t at; } fields[] = {
    {"step", FIELD_U64, offsetof(aa_position, step)},
    {"windows", FIELD_U64, offsetof(aa_position, windows)},
    {"tokens", FIELD_U64, offsetof(aa_position, tokens)},
    {"optimizer_updates", FIELD_U64, offsetof(aa_position, optim_t)},
    {"journal_bytes", FIELD_U64, offsetof(aa_position, journal_bytes)},
    {"seed", FIELD_U64, offsetof(aa_position, rng_seed)},
    {"sequence_forwards", FIELD_U64, offsetof(aa_position, sequence_forwards)},
    {"elapsed_s", FIELD_REAL, offsetof(aa_position, elapsed_s)},
    {"train_s", FIELD_REAL, offsetof(aa_position, train_s)},
    {"flop", FIELD_REAL, offsetof(aa_position, flop)},
    {"eval_loss", FIELD_REAL, offsetof(aa_position, last_eval.loss)},
    {"eval_loss_stderr", FIELD_REAL, offsetof(aa_position, last_eval.loss_stderr)},
    {"eval_bits_per_byte", FIELD_REAL, offsetof(aa_position, last_eval.bits_per_byte)},
    {"eval_perplexity", FIELD_REAL, offsetof(aa_position, last_eval.perplexity)},
    {"eval_tokens", FIELD_U64, offsetof(aa_position, last_eval.tokens)},
    {"eval_bytes", FIELD_U64, offsetof(aa_position, last_eval.bytes)},
    {"best_loss", FIELD_REAL, offsetof(aa_position, best_loss)},
    {"best_step", FIELD_U64, offsetof(aa_position, best_step)},
    {"first_loss", FIELD_REAL, offsetof(aa_position, first_loss)},
    {"smooth_loss", FIELD_REAL, offsetof(aa_position, smooth_loss)},
    {"log_loss_sum", FIELD_REAL, offsetof(aa_position, log_loss_sum)},
    {"log_steps", FIELD_U64, offsetof(aa_position, log_steps)},
    {"next_eval", FIELD_REAL, offsetof(aa_position, next_eval)},
    {"next_checkpoint", FIELD_REAL, offsetof(aa_position, next_checkpoint)},
    {"next_log", FIELD_REAL, offsetof(aa_position, next_log)},
    {"next_sample", FIELD_REAL, offsetof(aa_position, next_sample)},
    {"tokens_digest", FIELD_DIGEST, offsetof(aa_position, tokens_digest)},
    {"base_digest", FIELD_DIGEST, offsetof(aa_position, base_digest)},
};
enum { N_FIELDS = sizeof fields / sizeof *fields };

static void write_position(const aa_position *at, aa_text *out) {
    for (size_t i = 0; i < N_FIELDS; i++) {
        const void *p = (const char *)at + fields[i].at;
        char hex[AA_DIGEST_HEX];
        aa_text_json_key(out, fields[i].key);
        switch (fields[i].type) {
        case FIELD_U64: aa_text_json_int(out, (int64_t)*(const uint64_t *)p); break;
        case FIELD_REAL: aa_text_json_real(out, *(const double *)p); break;
        case FIELD_DIGEST:
            aa_digest_hex(*(const aa_digest *)p, hex);
            aa_text_json_string(out, hex, strlen(hex));
            break;
        }
    }
}

static aa_status parse_digest(const char *s, const char *name, aa_digest *out, aa_err *err) {
    if (aa_digest_parse(s, out)) return AA_OK;
    return aa_fail(err, AA_EFORMAT, "%s: '%s' is not a digest of 32 hexadecimal digits", name, s);
}

static aa_status read_position(const json_t *o, const char *name, aa_position *at, aa_err *err) {
    for (size_t i = 0; i < N_FIELDS; i++) {
        void *p = (char *)at + fields[i].at;
        int64_t n;
        const char *s;
        switch (fields[i].type) {
        case FIELD_U64:
            AA_TRY(aa_json_int_need(o, fields[i].key, name, 0, INT64_MAX, &n, err));
            *(uint64_t *)p = (uint64_t)n;
            break;
        case FIELD_REAL:
            AA_TRY(aa_json_real(o, fields[i].key, name, -1e300, 1e300, NAN, p, err));
            break;
        case FIELD_DIGEST:
            AA_TRY(aa_json_str(o, fields[i].key, name, NO_DIGEST, &s, err));
            AA_TRY(parse_digest(s, name, p, err));
            break;
        }
    }
    return AA_OK;
}

/* ---- writing --------------------------------------------------------------------------------- */

typedef struct state_rows {
    aa_st_entry *entries;
    const aa_real **data;
    char (*names)[96];
    size_t n;
} state_rows;

static void add_state(state_rows *s, const char *slot, const aa_tensor *t, const aa_real *data,
                      size_t n) {
    snprintf(s->names[s->n], sizeof s->names[0], "%s.%s", slot, t->name);
    aa_st_entry *e = &s->entries[s->n];
    *e = (aa_st_entry){
        .name = s->names[s->n], .dtype = AA_DTYPE_F32, .n_dims = 1, .shape = {n}};
    s->data[s->n++] = data;
}

static aa_status list_state(state_rows *s, const aa_model *m, const aa_optim *optim, bool master,
                            aa_err *err) {
    size_t most = (AA_OPTIM_SLOTS + 1) * m->n_tensors;
    s->entries = aa_heap_alloc(most, sizeof *s->entries);
    s->data = aa_heap_alloc(most, sizeof *s->data);
    s->names = aa_heap_alloc(most, sizeof *s->names);
    if (!s->entries || !s->data || !s->names)
        return aa_fail_memory(err, "the list of training state", most * 256);
    for (size_t slot = 0; optim->tensors && slot < AA_OPTIM_SLOTS; slot++)
        for (size_t i = 0; i < m->n_tensors; i++) {
            const char *name = aa_optim_slot_name(optim, slot, i);
            if (name) add_state(s, name, &m->tensors[i], optim->slot[slot][i],
                                aa_optim_slot_size(optim, slot, i));
        }
    for (size_t i = 0; master && i < m->n_tensors; i++)
        add_state(s, "master", &m->tensors[i], m->tensors[i].data, aa_tensor_size(&m->tensors[i]));
    return AA_OK;
}

static aa_status write_state(const char *dir, const aa_model *m, const aa_optim *optim, bool master,
                             aa_hf_files *files, aa_err *err) {
    state_rows s = {0};
    aa_digest digest;
    aa_outfile *f = NULL;
    char *path = aa_path_join(dir, STATE_FILE);
    aa_status st = path ? list_state(&s, m, optim, master, err) : aa_fail_memory(err, "a path", 0);
    if (!st) st = aa_outfile_open(&f, path, err);
    if (!st) st = aa_safetensors_begin(f, s.entries, s.n, NULL, 0, err);
    for (size_t i = 0; !st && i < s.n; i++)
        aa_outfile_write(f, s.data[i], (size_t)s.entries[i].shape[0] * sizeof(aa_real));
    if (!st) {
        uint64_t size_bytes = aa_outfile_size(f);
        st = aa_outfile_commit(f, &digest, err);
        if (!st) aa_hf_note(files, STATE_FILE, size_bytes, digest);
    } else if (f) aa_outfile_abort(f);
    aa_heap_free(path);
    aa_heap_free(s.entries);
    aa_heap_free(s.data);
    aa_heap_free(s.names);
    return st;
}

static void list_file(const aa_hf_file *f, aa_text *out) {
    char hex[AA_DIGEST_HEX];
    aa_digest_hex(f->digest, hex);
    aa_text_add(out, "\n{");
    aa_text_json_key(out, "name");
    aa_text_json_string(out, f->name, strlen(f->name));
    aa_text_json_key(out, "size");
    aa_text_json_int(out, (int64_t)f->size_bytes);
    aa_text_json_key(out, "digest");
    aa_text_json_string(out, hex, strlen(hex));
    aa_text_add(out, "}");
}

static aa_status write_run_json(const char *dir, const aa_position *at, bool exact,
                                const aa_hf_files *files, aa_err *err) {
    aa_text t = {0};
    aa_text_add(&t, "{");
    aa_text_json_key(&t, "version");
    aa_text_json_int(&t, POSITION_VERSION);
    write_position(at, &t);
    aa_text_json_key(&t, "exact_weights");
    aa_text_json_bool(&t, exact);
    aa_text_json_key(&t, "files");
    aa_text_add(&t, "[");
    for (size_t i = 0; i < files->n; i++) {
        if (i) aa_text_add(&t, ",");
        list_file(&files->file[i], &t);
    }
    aa_text_add(&t, "]}\n");
    aa_status st = aa_file_write_text(dir, POSITION_FILE, &t, err);
    aa_text_release(&t);
    return st;
}

static aa_status note_file(const char *dir, const char *name, aa_hf_files *files, aa_err *err) {
    char *path = aa_path_join(dir, name);
    aa_sys_info info = {0};
    aa_digest digest;
    if (!path) return aa_fail_memory(err, "a path", 0);
    int no = aa_sys_stat(&info, path);
    aa_status st = no ? aa_fail_errno(err, no, "cannot read", path)
                      : aa_digest_file(&digest, path, err);
    if (!st) aa_hf_note(files, name, info.size_bytes, digest);
    aa_heap_free(path);
    return st;
}

static aa_status write_adapter(const char *dir, const aa_model *m, const char *base_name,
                               aa_digest base, aa_hf_files *files, aa_err *err) {
    aa_adapter *a = NULL;
    AA_TRY(aa_adapter_of_model(&a, m, base_name, err));
    a->base_digest = base;
    aa_status st =
        aa_peft_write(dir, a, &m->config, &(aa_convert_options){.type = AA_TYPE_COUNT}, err);
    aa_adapter_close(a);
    if (!st) st = note_file(dir, "adapter_config.json", files, err);
    return st ? st : note_file(dir, "adapter_model.safetensors", files, err);
}

static aa_status fill_directory(const char *dir, const aa_model *m, const aa_hf_options *options,
                                const char *base_name, const aa_optim *optim,
                                const aa_position *at, aa_err *err) {
    aa_hf_files files = {0};
    aa_hf_options hf = *options;
    hf.files = &files;
    bool exact = false;
    int no = aa_sys_remove_tree(dir);
    if (no) return aa_fail_errno(err, no, "cannot remove the unfinished checkpoint", dir);
    AA_TRY(aa_make_dirs(dir, err));
    if (m->lora && base_name) {
        AA_TRY(write_adapter(dir, m, base_name, at->base_digest, &files, err));
        exact = true;
    } else AA_TRY(aa_hf_write(dir, m, &hf, &exact, err));
    if (optim->tensors) AA_TRY(write_state(dir, m, optim, !exact, &files, err));
    AA_TRY(write_run_json(dir, at, exact, &files, err));
    no = aa_sys_fsync_dir(dir);
    return no ? aa_fail_errno(err, no, "cannot flush", dir) : AA_OK;
}

/* Renamed first: a directory that is called step-N is whole, at any moment. */
static aa_status remove_checkpoint(const char *path, aa_err *err) {
    char *aside = aa_heap_printf("%s.old.tmp", path);
    if (!aside) return aa_fail_memory(err, "a path", 0);
    int no = aa_sys_remove_tree(aside);
    if (!no) no = aa_sys_rename(path, aside);
    if (!no) no = aa_sys_remove_tree(aside);
    aa_heap_free(aside);
    return no ? aa_fail_errno(err, no, "cannot remove the old checkpoint", path) : AA_OK;
}

aa_status aa_checkpoint_write(const char *run_dir, const aa_model *m, const aa_hf_options *hf,
                              const char *base_name, const aa_optim *optim,
                              const aa_position *at, aa_err *err) {
    char *tmp = aa_heap_printf("%s/step-%llu.tmp", run_dir, (unsigned long long)at->step);
    char *final = aa_heap_printf("%s/step-%llu", run_dir, (unsigned long long)at->step);
    aa_status st = tmp && final ? AA_OK : aa_fail_memory(err, "a path", 0);
    if (!st) st = fill_directory(tmp, m, hf, base_name, optim, at, err);
    /* A directory of that name can only be one that no link points to: left by a run killed before
     * the link. */
    aa_sys_info info = {0};
    if (!st && aa_sys_stat(&info, final) == 0 && info.kind != AA_SYS_ABSENT)
        st = remove_checkpoint(final, err);
    int no = st ? 0 : aa_sys_rename(tmp, final);
    if (!no && !st) no = aa_sys_fsync_dir(run_dir);
    if (no) st = aa_fail_errno(err, no, "cannot put the checkpoint at", final);
    if (st && tmp) (void)aa_sys_remove_tree(tmp);
    aa_heap_free(tmp);
    aa_heap_free(final);
    return st;
}

aa_status aa_checkpoint_mark(const char *run_dir, uint64_t step, const char *link, aa_err *err) {
    char target[40];
    snprintf(target, sizeof target, "step-%llu", (unsigned long long)step);
    char *path = aa_path_join(run_dir, link);
    if (!path) return aa_fail_memory(err, "a path", 0);
    int no = aa_sys_link_replace(target, path);
    if (!no) no = aa_sys_fsync_dir(run_dir);
    aa_status st = no ? aa_fail_errno(err, no, "cannot set the link", path) : AA_OK;
    aa_heap_free(path);
    return st;
}

/* ---- pruning --------------------------------------------------------------------------------- */

static bool step_of(const char *name, uint64_t *out) {
    char *end;
    if (strncmp(name, "step-", 5) != 0 || name[5] < '0' || name[5] > '9') return false;
    *out = strtoull(name + 5, &end, 10);
    return *end == 0;
}

typedef struct step_list { uint64_t *steps; size_t n, capacity; bool no_memory; } step_list;

static int add_step(void *ctx, const char *name) {
    step_list *l = ctx;
    uint64_t step;
    if (!step_of(name, &step)) return 0;
    if (l->n == l->capacity) {
        size_t capacity = l->capacity ? 2 * l->capacity : 16;
        uint64_t *more = aa_heap_realloc(l->steps, capacity, sizeof *more);
        if (!more) { l->no_memory = true; return 1; }
        l->steps = more;
        l->capacity = capacity;
    }
    l->steps[l->n++] = step;
    return 0;
}

static int newest_first(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

static aa_status is_linked(bool *out, const char *run_dir, const char *checkpoint, aa_err *err) {
    static const char *const links[] = {"last", "best"};
    aa_sys_info at, target;
    *out = aa_sys_stat(&at, checkpoint) != 0;   /* what cannot be looked at is kept */
    for (size_t i = 0; i < 2 && !*out; i++) {
        char *path = aa_path_join(run_dir, links[i]);
        if (!path) return aa_fail_memory(err, "a path", 0);
        *out = aa_sys_stat(&target, path) == 0 && target.kind == AA_SYS_DIR &&
               target.inode == at.inode;
        aa_heap_free(path);
    }
    return AA_OK;
}

static int sweep(void *ctx, const char *name) {
    const char *run_dir = ctx;
    size_t n = strlen(name);
    if (n < 4 || strcmp(name + n - 4, ".tmp")) return 0;
    char *path = aa_path_join(run_dir, name);
    int no = path ? aa_sys_remove_tree(path) : ENOMEM;
    aa_heap_free(path);
    return no;
}

aa_status aa_checkpoint_sweep(const char *run_dir, aa_err *err) {
    char *dir = aa_heap_strdup(run_dir);
    int no = dir ? aa_sys_list_dir(run_dir, sweep, dir) : ENOMEM;
    aa_heap_free(dir);
    return no ? aa_fail_errno(err, no, "cannot clear what was left unfinished in", run_dir) : AA_OK;
}

aa_status aa_checkpoint_prune(const char *run_dir, int64_t keep, aa_err *err) {
    if (keep <= 0) return AA_OK;
    step_list l = {0};
    int no = aa_sys_list_dir(run_dir, add_step, &l);
    aa_status st = l.no_memory ? aa_fail_memory(err, "the list of checkpoints", 0)
                   : no        ? aa_fail_errno(err, no, "cannot list", run_dir) : AA_OK;
    if (!st && l.n) qsort(l.steps, l.n, sizeof *l.steps, newest_first);
    for (size_t i = (size_t)keep; !st && i < l.n; i++) {
        char *path = aa_heap_printf("%s/step-%llu", run_dir, (unsigned long long)l.steps[i]);
        bool linked = true;
        st = path ? is_linked(&linked, run_dir, path, err) : aa_fail_memory(err, "a path", 0);
        if (!st && !linked) st = remove_checkpoint(path, err);
        aa_heap_free(path);
    }
    aa_heap_free(l.steps);
    return st;
}

/* ---- reading --------------------------------------------------------------------------------- */

static aa_status verify_file(const char *dir, const json_t *entry, const char *run_json,
                             aa_err *err) {
    const char *name, *hex;
    aa_digest want, got;
    AA_TRY(aa_json_str(entry, "name", run_json, "", &name, err));
    AA_TRY(aa_json_str(entry, "digest", run_json, "", &hex, err));
    AA_TRY(parse_digest(hex, run_json, &want, err));
    if (!*name || strchr(name, '/'))
        return aa_fail(err, AA_EFORMAT, "%s: '%s' is not a file name", run_json, name);
    char *path = aa_path_join(dir, name);
    if (!path) return aa_fail_memory(err, "a path", 0);
    aa_status st = aa_digest_file(&got, path, err);
    if (!st && !aa_digest_equal(want, got))
        st = aa_fail(
            err, AA_ECORRUPT,
            "'%s' has changed since the checkpoint was written; resume from another step-N", path);
    aa_heap_free(path);
    return st;
}

static aa_status read_run_json(const char *dir, aa_position *at, bool *exact, aa_err *err) {
    char *path = aa_path_join(dir, POSITION_FILE);
    json_t *o = NULL;
    int64_t version;
    aa_status st = path ? aa_json_load(&o, path, err) : aa_fail_memory(err, "a path", 0);
    if (!st) st = aa_json_int_need(o, "version", path, 0, INT32_MAX, &version, err);
    if (!st && version != POSITION_VERSION)
        st = aa_fail(err, AA_EUNSUPPORTED, "'%s' is version %lld, this program reads %d", path,
                     (long long)version, POSITION_VERSION);
    if (!st) st = read_position(o, path, at, err);
    if (!st) st = aa_json_flag(o, "exact_weights", path, true, exact, err);
    const json_t *files = st ? NULL : json_object_get(o, "files");
    if (!st && (!json_is_array(files) || !json_array_size(files)))
        st = aa_fail(err, AA_EFORMAT, "'%s': \"files\" must list the checkpoint's files", path);
    for (size_t i = 0; !st && i < json_array_size(files); i++)
        st = verify_file(dir, json_array_get(files, i), path, err);
    json_decref(o);
    aa_heap_free(path);
    return st;
}

static aa_status read_row(const aa_safetensors *f, const char *slot, const aa_tensor *t,
                          aa_real *out, size_t n, aa_err *err) {
    char name[96];
    snprintf(name, sizeof name, "%s.%s", slot, t->name);
    const aa_st_tensor *have = aa_safetensors_find(f, name);
    if (!have || have->dtype != AA_DTYPE_F32 || have->n_elements != n)
        return aa_fail(err, AA_EFORMAT, "'%s' has no '%s' of %zu F32 elements", f->path, name,
                       n);
    memcpy(out, aa_safetensors_data(f, have), have->size_bytes);
    return AA_OK;
}

static aa_status read_state(const char *dir, aa_model *m, aa_optim *optim, bool master,
                            aa_err *err) {
    aa_safetensors f = {0};
    char *path = aa_path_join(dir, STATE_FILE);
    if (!path) return aa_fail_memory(err, "a path", 0);
    aa_status st = aa_safetensors_open(&f, path, err);
    aa_heap_free(path);
    if (st) return st;
    for (size_t i = 0; !st && i < m->n_tensors; i++) {
        for (size_t s = 0; !st && s < AA_OPTIM_SLOTS; s++) {
            const char *name = aa_optim_slot_name(optim, s, i);
            if (name) st = read_row(&f, name, &m->tensors[i], optim->slot[s][i],
                                    aa_optim_slot_size(optim, s, i), err);
        }
        if (!st && master) st = read_row(&f, "master", &m->tensors[i], m->tensors[i].data,
                                         aa_tensor_size(&m->tensors[i]), err);
    }
    aa_safetensors_close(&f);
    return st;
}

static aa_status read_model(const char *dir, aa_model *m, aa_err *err) {
    aa_source *s = NULL;
    AA_TRY(aa_source_open(&s, dir, err));
    aa_status st = aa_source_load(s, m, err);
    aa_source_close(s);
    return st;
}

static aa_status read_adapter(const char *dir, aa_model *m, aa_err *err) {
    aa_adapter *a = NULL;
    AA_TRY(aa_adapter_open(&a, dir, err));
    aa_status st = aa_adapter_bind(a, &m->config, err);
    if (!st) st = aa_adapter_load(a, m, err);
    aa_adapter_close(a);
    return st;
}

aa_status aa_checkpoint_read(const char *dir, aa_model *m, aa_optim *optim, aa_position *out,
                             aa_err *err) {
    aa_position at = {0};
    bool exact = true;
    AA_TRY(read_run_json(dir, &at, &exact, err));
    if (m) {
        if (m->lora) AA_TRY(read_adapter(dir, m, err));
        else if (exact) AA_TRY(read_model(dir, m, err));
        optim->t = at.optim_t;
        AA_TRY(read_state(dir, m, optim, !exact, err));
        aa_model_changed(m);
    }
    *out = at;
    return AA_OK;
}
