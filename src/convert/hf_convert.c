/* convert/hf_convert: any source as a Hugging Face directory.
 *
 * Tensors have the source's rows, ids that a compact vocabulary left out included. Generation
 * config and tokenizer are made from what the source says of them, or copied where it is of this
 * format.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "convert/convert.h"
#include "convert/convert_int.h"
#include "convert/stream.h"
#include "formats/safetensors.h"

/* Files beside config and weights, which are kept as they are. */
static const char *const companions[] = {
    AA__HF_GENERATION, AA__HF_TOKENIZER, AA__HF_TOKENIZER_CONFIG, AA__HF_TEMPLATE, AA__HF_ACTIVE,
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model"};

typedef struct writer {
    const char *dir;
    aa_source *s;
    const aa_convert_options *o;
    aa_config config;                    /* with the ids that the file has rows for */
    aa_arena arena;
    aa__entry *entries; size_t n;
    aa__stream stream;
    aa_tokenizer *tokenizer;             /* or NULL */
} writer;

/* ---- what is written ------------------------------------------------------------------------- */

static aa_status check_type(aa_type type, aa_err *err) {
    if (type == AA_TYPE_COUNT || type == AA_TYPE_F32 || type == AA_TYPE_F16 || type == AA_TYPE_BF16)
        return AA_OK;
    return aa_fail(err, AA_EUNSUPPORTED, "a Hugging Face directory has weights in F32, F16 or BF16,"
                   " not %s: choose one of them, or write a GGUF file", aa_type_name(type));
}

static aa_status list_entries(writer *w, aa_err *err) {
    aa_config *c = &w->config;
    size_t n = aa_model_rows(c, NULL, 0);
    aa_tensor *rows = aa_arena_new(&w->arena, aa_tensor, n);

    w->entries = aa_arena_new(&w->arena, aa__entry, n);
    AA_TRY(aa_arena_status(&w->arena, err));
    aa_model_rows(c, rows, n);
    for (size_t i = 0; i < n; i++) {
        aa__entry *e = &w->entries[w->n++];
        double scale = aa__residual_scale_of(&w->s->config, &rows[i]);

        AA_TRY(w->s->find(w->s, &rows[i], &e->from, err));
        snprintf(e->name, sizeof e->name, "%s", rows[i].name);
        e->vector = aa_tensor_is_vector(&rows[i]);
        e->mapped = w->s->mapped;
        e->scale = scale == 1 ? 0 : scale;
        e->to = aa_type_block(e->from.type) == 1 ? e->from.type : AA_TYPE_F32;
        if (w->o->type != AA_TYPE_COUNT) e->to = w->o->type;
    }
    return w->s->check_all_read ? w->s->check_all_read(w->s, err) : AA_OK;
}

/* ---- weights --------------------------------------------------------------------------------- */

/* Writes the files, and for each tensor of the index where it is. */
static aa_status write_shards(const writer *w, size_t n_files, aa_text *index, aa_err *err) {
    char name[64];

    for (size_t begin = 0, i = 1; begin < w->n; i++) {
        size_t end = aa__shard_end(w->entries, w->n, begin, w->o->shard_bytes);

        snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i, n_files);
        AA_TRY(aa__stream_safetensors(&w->stream, w->dir, name, w->entries + begin, end - begin,
                                      NULL, err));
        for (; begin < end; begin++)
            aa_text_printf(index, "%s\n    \"%s\": \"%s\"", begin ? "," : "",
                           w->entries[begin].name, name);
    }
    return AA_OK;
}

static aa_status write_weights(const writer *w, aa_err *err) {
    size_t n_files = 0;
    uint64_t total = 0;
    aa_text index = {0};

    for (size_t at = 0; at < w->n; n_files++)
        at = aa__shard_end(w->entries, w->n, at, w->o->shard_bytes);
    if (n_files == 1)
        return aa__stream_safetensors(&w->stream, w->dir, AA__HF_WEIGHTS, w->entries, w->n, NULL,
                                      err);
    for (size_t i = 0; i < w->n; i++) total += aa__entry_bytes(&w->entries[i]);
    aa_text_printf(&index, "{\n  \"metadata\": {\"total_size\": %llu},\n  \"weight_map\": {",
                   (unsigned long long)total);
    aa_status st = write_shards(w, n_files, &index, err);
    aa_text_add(&index, "\n  }\n}\n");
    if (!st) st = aa_file_write_text(w->dir, AA__HF_INDEX, &index, err);
    aa_text_release(&index);
    return st;
}

/* ---- the files beside them ------------------------------------------------------------------- */

static aa_status copy_file(const char *from_dir, const char *to_dir, const char *name,
                           aa_err *err) {
    aa_sys_kind kind;
    aa_sys_map map = {0};

    AA_TRY(aa__kind_of(&kind, from_dir, name, err));
    if (kind != AA_SYS_FILE) return AA_OK;
    char *from = aa_path_join(from_dir, name), *to = aa_path_join(to_dir, name);
    aa_status st = from && to ? aa_map_open(&map, from, err) : aa_fail_memory(err, "a path", 0);

    if (!st) st = aa_file_write(to, map.data, map.size_bytes, err);
    aa_sys_map_close(&map);
    aa_heap_free(from);
    aa_heap_free(to);
    return st;
}

static aa_status write_companions(const writer *w, const aa_tokenizer *t, aa_err *err) {
    aa_type type = aa__most_common_type(w->entries, w->n);

    AA_TRY(aa__hf_write_config(w->dir, &w->config, t, type, err));
    if (strcmp(w->s->format, "huggingface") != 0)
        return t ? aa__hf_write_tokenizer(w->dir, &w->config, t, w->s->chat_template, err) : AA_OK;
    for (size_t i = 0; i < sizeof companions / sizeof *companions; i++)
        AA_TRY(copy_file(w->s->path, w->dir, companions[i], err));
    return AA_OK;
}

static aa_status write_directory(void *ctx, const char *dir, aa_err *err) {
    writer *w = ctx;

    w->dir = dir;
    AA_TRY(write_companions(w, w->tokenizer, err));
    return write_weights(w, err);
}

static int name_found(void *ctx, const char *name) {
    *(bool *)ctx = true;
    (void)name;
    return 0;
}

static aa_status check_free(const char *path, aa_err *err) {
    aa_sys_info info;
    bool used = false;
    int no = aa_sys_stat(&info, path);

    if (!no && info.kind == AA_SYS_ABSENT) return AA_OK;
    if (!no && info.kind == AA_SYS_DIR) no = aa_sys_list_dir(path, name_found, &used);
    else used = true;
    if (no) return aa_fail_errno(err, no, "cannot read", path);
    return used ? aa_fail(err, AA_EUSAGE, "'%s' is there already; choose another directory, or "
                          "remove it first", path) : AA_OK;
}

/* What a process of the same id left at aside, which was killed, goes first. */
static aa_status write_aside(const char *path, const char *aside, aa__directory_fn *write,
                             void *ctx, aa_err *err) {
    int no = aa_sys_remove_tree(aside);
    aa_status st = no ? aa_fail_errno(err, no, "cannot remove", aside) : aa_make_dirs(aside, err);

    if (!st) st = write(ctx, aside, err);
    if (!st && (no = aa_sys_rename(aside, path)))
        st = aa_fail_errno(err, no, "cannot put what was written at", path);
    if (st) (void)aa_sys_remove_tree(aside);
    return st;
}

aa_status aa__write_directory(const char *path, aa__directory_fn *write, void *ctx, aa_err *err) {
    size_t n = strlen(path);

    while (n > 1 && path[n - 1] == '/') n--;
    AA_TRY(check_free(path, err));
    char *aside = aa_heap_printf("%.*s.%ld.tmp", (int)n, path, (long)getpid());
    aa_status st = aside ? write_aside(path, aside, write, ctx, err)
                         : aa_fail_memory(err, "a path", n);
    aa_heap_free(aside);
    return st;
}

aa_status aa_hf_convert(const char *path, aa_source *s, const aa_convert_options *o, aa_err *err) {
    writer w = {.s = s, .o = o, .config = s->config};

    AA_TRY(check_type(o->type, err));
    w.config.vocab = (int64_t)s->full_vocab;
    w.config.residual_scale = 1;
    aa_arena_init(&w.arena, "writing a model");
    aa_status st = list_entries(&w, err);
    if (!st) aa__stream_init(&w.stream, s->path, o, w.entries, w.n, &w.arena);
    if (!st) st = aa_arena_status(&w.arena, err);
    if (!st && s->tokenizer_path) st = aa_source_tokenizer(s, &w.tokenizer, err);
    if (!st) st = aa__write_directory(path, write_directory, &w, err);
    aa_tokenizer_free(w.tokenizer);
    aa_arena_release(&w.arena);
    return st;
}
