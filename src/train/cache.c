#include "train/cache.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "data/story.h"

/* Raised when the meaning of cached content changes. */
#define CACHE_VERSION "1"
#define TOKENIZER_SAMPLE_BYTES ((size_t)16 << 20)

static char *cache_dir(void) {
    const char *base = getenv("XDG_CACHE_HOME");
    if (base && *base) return aa_path_join(base, "autoane");
    base = getenv("HOME");
    return base && *base ? aa_path_join(base, ".cache/autoane") : aa_heap_strdup(".autoane-cache");
}

/* "<cache>/<prefix>-<hex of key><suffix>", directory made and rid of what killed processes left in
 * it. Heap-owned. */
static aa_status cache_path(char **out, const char *prefix, aa_digest key, const char *suffix,
                            aa_err *err) {
    char hex[AA_DIGEST_HEX];
    aa_digest_hex(key, hex);
    char *dir = cache_dir();
    if (!dir) return aa_fail_memory(err, "a cache path", 0);
    aa_status st = aa_make_dirs(dir, err);
    if (!st) aa_outfile_sweep(dir);
    char *path = st ? NULL : aa_heap_printf("%s/%s-%s%s", dir, prefix, hex, suffix);
    aa_heap_free(dir);
    if (st) return st;
    if (!path) return aa_fail_memory(err, "a cache path", 0);
    *out = path;
    return AA_OK;
}

static bool is_file(const char *path) {
    aa_sys_info info;
    return aa_sys_stat(&info, path) == 0 && info.kind == AA_SYS_FILE;
}

static aa_digest key_of(const char *text) { return aa_digest_bytes(text, strlen(text)); }

aa_status aa_cache_stories(char **out_path, aa_err *err) {
    /* The first stories are part of the key: a changed grammar must not find an old corpus. */
    aa_text text = {0};
    aa_story_corpus(&text, 1, 0, 16);
    aa_text_printf(&text, "%d MiB", AA_STORIES_MIB);
    aa_status st = aa_text_status(&text, err);
    char *path = NULL;
    if (!st) st = cache_path(&path, "stories", aa_digest_bytes(text.data, text.len), ".txt", err);
    if (!st && !is_file(path)) {
        aa_outfile *f = NULL;
        st = aa_outfile_open(&f, path, err);
        uint64_t size = (uint64_t)AA_STORIES_MIB << 20;
        enum { CHUNK = 256 };
        for (uint64_t n = 0; !st && aa_outfile_size(f) < size; n += CHUNK) {
            aa_text_clear(&text);
            aa_story_corpus(&text, 1, n, CHUNK);
            st = aa_text_status(&text, err);
            if (n && !st) aa_outfile_write(f, "\n", 1);
            if (!st) aa_outfile_write(f, text.data, text.len);
            if (!st && aa_sys_interrupt_pending())
                st = aa_fail(err, AA_EINTERRUPTED, "interrupted while writing stories");
        }
        if (!st) st = aa_outfile_commit(f, NULL, err);
        else if (f) aa_outfile_abort(f);
    }
    aa_text_release(&text);
    if (st) aa_heap_free(path);
    else *out_path = path;
    return st;
}

static aa_status train_and_store(aa_tokenizer **out, const char *source, size_t n, aa_split split,
                                 const char *path, aa_pool *pool, aa_err *err) {
    aa_text sample = {0}, json = {0};
    aa_tokenizer *t = NULL;
    aa_status st = aa_source_sample(source, TOKENIZER_SAMPLE_BYTES, &sample, err);
    if (!st) st = aa_tokenizer_train(&t, pool, sample.data, sample.len, n, split, err);
    if (!st) st = aa_tokenizer_write_json(t, &json, err);
    if (!st) st = aa_file_write(path, json.data, json.len, err);
    aa_text_release(&sample);
    aa_text_release(&json);
    if (st) aa_tokenizer_free(t);
    else *out = t;
    return st;
}

aa_status aa_cache_tokenizer(aa_tokenizer **out, const char *source, size_t n, aa_split split,
                             aa_pool *pool, aa_err *err) {
    aa_digest digest;
    AA_TRY(aa_source_digest(&digest, source, err));
    char text[AA_DIGEST_HEX + 64], hex[AA_DIGEST_HEX];
    aa_digest_hex(digest, hex);
    snprintf(text, sizeof text, "%s tokenizer %zu split %d version " CACHE_VERSION, hex, n, split);
    char *path = NULL;
    AA_TRY(cache_path(&path, "tokenizer", key_of(text), ".json", err));
    aa_status st = is_file(path) ? aa_tokenizer_load(out, path, err)
                                 : train_and_store(out, source, n, split, path, pool, err);
    aa_heap_free(path);
    return st;
}

aa_status aa_cache_tokens(char **out_path, const char *source, const aa_tokenizer *t, aa_pool *pool,
                          const aa_tokenize_options *o, const aa_job_hooks *hooks, aa_err *err) {
    aa_digest digest;
    AA_TRY(aa_source_digest(&digest, source, err));
    char text[3 * AA_DIGEST_HEX + 64], hex[AA_DIGEST_HEX], tok[AA_DIGEST_HEX], chat[AA_DIGEST_HEX];
    aa_digest_hex(digest, hex);
    aa_digest_hex(aa_tokenizer_digest(t), tok);
    aa_digest_hex(key_of(o->chat_template ? o->chat_template : ""), chat);
    snprintf(text, sizeof text, "%s %s %s on %d tokens version " CACHE_VERSION, hex, tok, chat,
             (int)o->train_on);
    char *path = NULL;
    AA_TRY(cache_path(&path, "tokens", key_of(text), ".tok", err));
    aa_status st = AA_OK;
    if (!is_file(path)) {
        if (hooks && hooks->message)
            hooks->message(hooks->ctx, "tokenizing the text (once; kept in the cache)");
        st = aa_tokenize(source, t, pool, path, o, err);
    }
    if (st) aa_heap_free(path);
    else *out_path = path;
    return st;
}
