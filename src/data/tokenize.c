/* data/tokenize: from a source to a token file.
 *
 * Documents are gathered into batches; the threads of the pool encode a batch's documents, each
 * into the output of its group, and the groups are written in order. Which thread does what cannot
 * be seen in the file. Held in memory: one batch, and 9 bytes per document.
 */
#include <string.h>
#include "base/memory.h"
#include "data/documents.h"
#include "data/tokenizer_int.h"
#include "data/tokens_int.h"
#include "sys/sys.h"

enum { BATCH_BYTES = 16 << 20, GROUPS = 64, WRITE_TOKENS = 8192 };

typedef struct batch_document {
    size_t at, n;
    uint64_t n_tokens;
    aa_digest digest;
} batch_document;

typedef struct writer {
    const aa_tokenizer *tokenizer;
    int32_t eos;
    aa_pool *pool;
    aa_outfile *file;
    aa_digester *digester;
    unsigned width;
    aa_text text; /* of the batch */
    batch_document *batch;
    size_t n_batch, batch_capacity;
    aa_ids group[GROUPS];
    aa_status status[GROUPS];
    aa__encoder *encoder; /* one per thread */
    uint64_t *document;
    uint8_t *part;
    uint64_t n_documents, capacity;
    uint64_t smallest, largest, lo, hi; /* documents of extreme digests, and those */
    uint64_t n_tokens, n_bytes;
    const aa__walk *walk;
    void (*progress)(void *ctx, aa_tokenize_progress p);
    void *progress_ctx;
} writer;

/* ---- a batch --------------------------------------------------------------------------------- */

static void encode_group(writer *w, size_t g, aa__encoder *e) {
    size_t begin = w->n_batch * g / GROUPS, end = w->n_batch * (g + 1) / GROUPS;
    aa_ids *out = &w->group[g];
    out->len = 0;
    for (size_t i = begin; i < end && !w->status[g]; i++) {
        batch_document *d = &w->batch[i];
        size_t before = out->len;
        d->digest = aa_digest_bytes(w->text.data + d->at, d->n);
        w->status[g] = aa__encode_with(e, w->text.data + d->at, d->n, AA_ENCODE_PLAIN, out, NULL);
        if (w->status[g]) return;
        if (w->eos >= 0) {
            if (!aa__ids_reserve(out, 1)) {
                w->status[g] = AA_ENOMEM;
                return;
            }
            out->data[out->len++] = w->eos;
        }
        d->n_tokens = out->len - before;
    }
}

static void encode_groups(void *ctx, size_t begin, size_t end, int thread) {
    writer *w = ctx;
    for (size_t g = begin; g < end; g++) encode_group(w, g, &w->encoder[thread]);
}

static void put(writer *w, const void *p, size_t n) {
    aa_outfile_write(w->file, p, n);
    aa_digester_add(w->digester, p, n);
}

static void put_zeros(writer *w, size_t n) {
    static const unsigned char zeros[AA__TOKENS_HEAD];
    put(w, zeros, n);
}

static void put_ids(writer *w, const aa_ids *ids) {
    uint16_t narrow[WRITE_TOKENS];
    if (w->width == 4) {
        put(w, ids->data, 4 * ids->len);
        return;
    }
    for (size_t at = 0; at < ids->len; at += WRITE_TOKENS) {
        size_t n = ids->len - at < WRITE_TOKENS ? ids->len - at : WRITE_TOKENS;
        for (size_t i = 0; i < n; i++) narrow[i] = (uint16_t)ids->data[at + i];
        put(w, narrow, 2 * n);
    }
}

static aa_status add_row(writer *w, const batch_document *d, aa_err *err) {
    if (w->n_documents + 3 > w->capacity) { /* the row, the end, and one to settle */
        uint64_t capacity = w->capacity ? 2 * w->capacity : 1024;
        uint64_t *document = aa_heap_realloc(w->document, capacity, sizeof *document);
        if (document) w->document = document;
        uint8_t *part = document ? aa_heap_realloc(w->part, capacity, 1) : NULL;
        if (!part) return aa_fail_memory(err, "the table of documents", capacity * 9);
        w->part = part;
        w->capacity = capacity;
    }
    uint64_t i = w->n_documents++;
    w->document[i] = w->n_tokens;
    w->part[i] = (uint8_t)aa_part_of(d->digest);
    w->n_tokens += d->n_tokens;
    w->n_bytes += d->n;
    w->document[i + 1] = w->n_tokens;
    if (d->digest.lo < w->lo) {
        w->lo = d->digest.lo;
        w->smallest = i;
    }
    if (d->digest.lo > w->hi) {
        w->hi = d->digest.lo;
        w->largest = i;
    }
    return AA_OK;
}

static aa_status flush(writer *w, aa_err *err) {
    if (aa_sys_interrupt_pending())
        return aa_fail(err, AA_EINTERRUPTED, "interrupted while tokenizing; nothing was kept");
    aa_pool_run(w->pool, GROUPS, encode_groups, w);
    for (size_t g = 0; g < GROUPS; g++) {
        if (w->status[g] == AA_ENOMEM) return aa_fail_memory(err, "tokenizing", w->text.len);
        if (w->status[g])
            return aa_fail(err, w->status[g], "tokenizing failed: %s",
                           aa_status_text(w->status[g]));
        put_ids(w, &w->group[g]);
    }
    for (size_t i = 0; i < w->n_batch; i++)
        if (w->batch[i].n_tokens) AA_TRY(add_row(w, &w->batch[i], err));
    w->n_batch = 0;
    aa_text_clear(&w->text);
    if (w->progress)
        w->progress(w->progress_ctx,
                    (aa_tokenize_progress){w->walk->done_bytes, w->walk->total_bytes});
    return AA_OK;
}

static aa_status add_document(void *ctx, const char *text, size_t n, aa_err *err) {
    writer *w = ctx;
    if (w->n_batch == w->batch_capacity) {
        size_t capacity = w->batch_capacity ? 2 * w->batch_capacity : 4096;
        batch_document *batch = aa_heap_realloc(w->batch, capacity, sizeof *batch);
        if (!batch) return aa_fail_memory(err, "a batch of documents", capacity * sizeof *batch);
        w->batch = batch;
        w->batch_capacity = capacity;
    }
    w->batch[w->n_batch++] = (batch_document){.at = w->text.len, .n = n};
    aa_text_add_bytes(&w->text, text, n);
    AA_TRY(aa_text_status(&w->text, err));
    return w->text.len >= BATCH_BYTES ? flush(w, err) : AA_OK;
}

/* ---- the file -------------------------------------------------------------------------------- */

static void put_head(writer *w) {
    uint32_t words[2] = {1, w->width};
    put(w, AA__TOKENS_MAGIC, 8);
    put(w, words, sizeof words);
    put_zeros(w, AA__TOKENS_HEAD - 16);
}

static void put_tail(writer *w, aa_digest source) {
    uint64_t tokens_size = w->n_tokens * w->width, n = w->n_documents;
    put_zeros(w, aa__pad64(tokens_size) - tokens_size);
    put(w, w->document, (n + 1) * sizeof *w->document);
    put(w, w->part, n);
    put_zeros(w, aa__pad64(9 * n + 8) - (9 * n + 8));
    aa__tokens_tail tail = {.magic = "",
                            .n_tokens = w->n_tokens,
                            .n_documents = n,
                            .n_bytes = w->n_bytes,
                            .vocab = aa_tokenizer_vocab(w->tokenizer),
                            .tokenizer = aa_tokenizer_digest(w->tokenizer),
                            .source = source};
    memcpy(tail.magic, AA__TOKENS_END, 8);
    put(w, &tail, sizeof tail - sizeof tail.digest);
    tail.digest = aa_digester_get(w->digester);
    aa_outfile_write(w->file, &tail.digest, sizeof tail.digest);
}

static aa_status write_source(writer *w, const char *source, aa__walk *walk, aa_err *err) {
    aa_digest digest;
    AA_TRY(aa_source_digest(&digest, source, err));
    put_head(w);
    AA_TRY(aa__documents_walk(walk, source, err));
    AA_TRY(flush(w, err));
    if (!w->n_tokens)
        return aa_fail(err, AA_EFORMAT, "'%s' gave no tokens: the tokenizer lacks all its bytes",
                       source);
    aa__parts_settle(w->document, w->part, &w->n_documents, w->smallest, w->largest);
    put_tail(w, digest);
    return AA_OK;
}

static void writer_release(writer *w) {
    for (int i = 0; w->encoder && i < aa_pool_threads(w->pool); i++)
        aa__encoder_release(&w->encoder[i]);
    for (size_t g = 0; g < GROUPS; g++) aa_ids_release(&w->group[g]);
    aa_heap_free(w->encoder);
    aa_heap_free(w->batch);
    aa_heap_free(w->document);
    aa_heap_free(w->part);
    aa_text_release(&w->text);
    aa_digester_free(w->digester);
}

aa_status aa_tokenize(const char *source, const aa_tokenizer *tokenizer, aa_pool *pool,
                      const char *out_path, void (*progress)(void *ctx, aa_tokenize_progress p),
                      void *ctx, aa_err *err) {
    writer w = {.tokenizer = tokenizer,
                .eos = aa_tokenizer_eos(tokenizer),
                .pool = pool,
                .lo = UINT64_MAX,
                .width = aa_tokenizer_vocab(tokenizer) > UINT16_MAX + 1u ? 4 : 2,
                .progress = progress,
                .progress_ctx = ctx};
    aa__walk walk = {.fn = add_document, .ctx = &w};
    w.walk = &walk;
    int n_threads = aa_pool_threads(pool);
    w.encoder = aa_heap_alloc((size_t)n_threads, sizeof *w.encoder);
    aa_status st = w.encoder
                       ? AA_OK
                       : aa_fail_memory(err, "tokenizing", (uint64_t)n_threads * sizeof *w.encoder);
    for (int i = 0; !st && i < n_threads; i++) w.encoder[i].t = tokenizer;
    if (!st) st = aa_digester_new(&w.digester, err);
    if (!st) st = aa_outfile_open(&w.file, out_path, err);
    if (!st) st = write_source(&w, source, &walk, err);
    if (st && w.file) aa_outfile_abort(w.file);
    if (!st) st = aa_outfile_commit(w.file, NULL, err);
    writer_release(&w);
    return st;
}
