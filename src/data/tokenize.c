/* data/tokenize: from a source to a token file.
 *
 * Documents are gathered into batches; the threads of the pool encode a batch's documents, each
 * into the output of its group, and the groups are written in order. Which thread does what cannot
 * be seen in the file. Held in memory: one batch, 9 bytes per document, and of a source with
 * examples a bit per token. Ids that are not learned are their complement until they are written.
 */
#include <string.h>
#include "base/memory.h"
#include "data/documents.h"
#include "data/tokenizer_int.h"
#include "data/tokens_int.h"
#include "sys/sys.h"

enum { BATCH_BYTES = 16 << 20, GROUPS = 64, WRITE_TOKENS = 8192 };

typedef struct batch_document {
    aa__document d;                        /* text and learned are in the writer's */
    size_t at, span_at;
    uint64_t n_tokens;
} batch_document;

typedef struct writer {
    const aa_tokenizer *tokenizer;
    int32_t eos;
    aa_pool *pool;
    aa_outfile *file;
    aa_digester *digester;
    unsigned width;
    aa_text text, spans; /* of the batch */
    batch_document *batch;
    size_t n_batch, batch_capacity;
    aa_ids group[GROUPS];
    aa_status status[GROUPS];
    aa_err *err; /* of each group */
    aa__encoder *encoder; /* one per thread */
    uint64_t *document;
    uint8_t *part;
    uint64_t n_documents, capacity;
    uint64_t smallest, largest, lo, hi; /* documents of extreme digests, and those */
    uint64_t n_tokens, n_bytes, n_put;
    bool examples;
    uint8_t *mask;
    uint64_t mask_bytes;
    const aa__walk *walk;
    const aa_tokenize_options *options;
} writer;

/* ---- a batch --------------------------------------------------------------------------------- */

static aa_status encode_document(writer *w, batch_document *b, aa__encoder *e, aa_ids *out,
                                 aa_err *err) {
    const char *text = w->text.data + b->at;
    const aa__document *d = &b->d;
    const aa_span *learned = (const aa_span *)(const void *)(w->spans.data + b->span_at);
    size_t before = out->len;
    if (d->example)
        AA_TRY(aa__encode_learned(e, text, d->n, d->flags, learned, d->n_learned, out, err));
    else {
        b->d.digest = aa_digest_bytes(text, d->n);
        AA_TRY(aa__encode_with(e, text, d->n, d->flags, out, err));
    }
    if (d->ends && w->eos >= 0) {
        if (!aa__ids_reserve(out, 1)) return AA_ENOMEM;
        out->data[out->len++] = w->eos;
    }
    b->n_tokens = out->len - before;
    return AA_OK;
}

static void encode_group(writer *w, size_t g, aa__encoder *e) {
    size_t begin = w->n_batch * g / GROUPS, end = w->n_batch * (g + 1) / GROUPS;
    w->group[g].len = 0;
    for (size_t i = begin; i < end && !w->status[g]; i++)
        w->status[g] = encode_document(w, &w->batch[i], e, &w->group[g], &w->err[g]);
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

/* Complements become ids, and bits of the mask. */
static aa_status mark_ids(writer *w, aa_ids *ids, aa_err *err) {
    uint64_t need = aa__mask_bytes(w->n_put + ids->len);
    if (need > w->mask_bytes) {
        uint64_t size = need + need / 2;
        uint8_t *mask = aa_heap_realloc(w->mask, size, 1);
        if (!mask) return aa_fail_memory(err, "the mask of a token file", size);
        memset(mask + w->mask_bytes, 0, size - w->mask_bytes);
        w->mask = mask;
        w->mask_bytes = size;
    }
    for (size_t i = 0; i < ids->len; i++) {
        uint64_t at = w->n_put + i;
        if (ids->data[i] >= 0) continue;
        ids->data[i] = ~ids->data[i];
        w->mask[at / 8] |= (uint8_t)(1u << at % 8);
    }
    return AA_OK;
}

static aa_status put_ids(writer *w, aa_ids *ids, aa_err *err) {
    uint16_t narrow[WRITE_TOKENS];
    if (w->examples) AA_TRY(mark_ids(w, ids, err));
    w->n_put += ids->len;
    if (w->width == 4) {
        put(w, ids->data, 4 * ids->len);
        return AA_OK;
    }
    for (size_t at = 0; at < ids->len; at += WRITE_TOKENS) {
        size_t n = ids->len - at < WRITE_TOKENS ? ids->len - at : WRITE_TOKENS;
        for (size_t i = 0; i < n; i++) narrow[i] = (uint16_t)ids->data[at + i];
        put(w, narrow, 2 * n);
    }
    return AA_OK;
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
    w->part[i] = (uint8_t)aa_part_of(d->d.digest);
    w->n_tokens += d->n_tokens;
    w->n_bytes += d->d.n;
    w->document[i + 1] = w->n_tokens;
    if (d->d.digest.lo < w->lo) {
        w->lo = d->d.digest.lo;
        w->smallest = i;
    }
    if (d->d.digest.lo > w->hi) {
        w->hi = d->d.digest.lo;
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
            return aa_fail(err, w->status[g], "tokenizing failed: %s", w->err[g].message);
        AA_TRY(put_ids(w, &w->group[g], err));
    }
    for (size_t i = 0; i < w->n_batch; i++)
        if (w->batch[i].n_tokens) AA_TRY(add_row(w, &w->batch[i], err));
    w->n_batch = 0;
    aa_text_clear(&w->text);
    aa_text_clear(&w->spans);
    if (w->options->progress)
        w->options->progress(w->options->ctx,
                             (aa_tokenize_progress){w->walk->done_bytes, w->walk->total_bytes});
    return AA_OK;
}

static aa_status add_document(void *ctx, const aa__document *d, aa_err *err) {
    writer *w = ctx;
    if (w->n_batch == w->batch_capacity) {
        size_t capacity = w->batch_capacity ? 2 * w->batch_capacity : 4096;
        batch_document *batch = aa_heap_realloc(w->batch, capacity, sizeof *batch);
        if (!batch) return aa_fail_memory(err, "a batch of documents", capacity * sizeof *batch);
        w->batch = batch;
        w->batch_capacity = capacity;
    }
    w->batch[w->n_batch++] =
        (batch_document){.d = *d, .at = w->text.len, .span_at = w->spans.len};
    aa_text_add_bytes(&w->text, d->text, d->n);
    aa_text_add_bytes(&w->spans, d->learned, d->n_learned * sizeof *d->learned);
    w->examples |= d->example;
    AA_TRY(aa_text_status(&w->text, err));
    AA_TRY(aa_text_status(&w->spans, err));
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
    if (w->examples) {
        uint64_t size = aa__mask_bytes(w->n_tokens);
        put(w, w->mask, size);
        put_zeros(w, aa__pad64(size) - size);
    }
    aa__tokens_tail tail = {.magic = "",
                            .flags = w->examples ? AA__TOKENS_MASK : 0,
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
    if (w->examples && w->n_documents < 2)
        return aa_fail(err, AA_EFORMAT,
                       "'%s' holds a single example; one to train on and one to validate on are "
                       "the least", source);
    aa__parts_settle(w->document, w->part, &w->n_documents, w->smallest, w->largest);
    put_tail(w, digest);
    return AA_OK;
}

static void writer_release(writer *w) {
    for (int i = 0; w->encoder && i < aa_pool_threads(w->pool); i++)
        aa__encoder_release(&w->encoder[i]);
    for (size_t g = 0; g < GROUPS; g++) aa_ids_release(&w->group[g]);
    aa_chat_free(w->walk->chat);
    aa_heap_free(w->encoder);
    aa_heap_free(w->err);
    aa_heap_free(w->mask);
    aa_heap_free(w->batch);
    aa_heap_free(w->document);
    aa_heap_free(w->part);
    aa_text_release(&w->text);
    aa_text_release(&w->spans);
    aa_digester_free(w->digester);
}

aa_status aa_tokenize(const char *source, const aa_tokenizer *tokenizer, aa_pool *pool,
                      const char *out_path, const aa_tokenize_options *options, aa_err *err) {
    static const aa_tokenize_options none;
    writer w = {.tokenizer = tokenizer,
                .eos = aa_tokenizer_eos(tokenizer),
                .pool = pool,
                .lo = UINT64_MAX,
                .width = aa_tokenizer_vocab(tokenizer) > UINT16_MAX + 1u ? 4 : 2,
                .options = options ? options : &none};
    aa__walk walk = {.fn = add_document,
                     .ctx = &w,
                     .tokenizer = tokenizer,
                     .chat_template = w.options->chat_template,
                     .learn_all = w.options->train_on == AA_TRAIN_ON_ALL};
    w.walk = &walk;
    int n_threads = aa_pool_threads(pool);
    w.encoder = aa_heap_alloc((size_t)n_threads, sizeof *w.encoder);
    w.err = aa_heap_alloc(GROUPS, sizeof *w.err);
    aa_status st = w.encoder && w.err
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
