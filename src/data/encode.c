/* data/encode: text to ids.
 *
 * As the `tokenizers` library orders it: added tokens are found in the text as it is (leftmost,
 * longest); what lies between is normalised; added tokens that ask for it are found there; the rest
 * is cut into pieces, and pieces become ids. Without AA_ENCODE_SPECIALS special tokens are not
 * looked for, other added tokens are. Bytes that are no UTF-8 are symbols of class OTHER, one each;
 * the normaliser leaves them.
 */
#include <string.h>
#include <utf8proc.h>
#include "data/tokenizer_int.h"

enum { CHUNK_BYTES = 256 << 10, GROUPS_MAX = 1024 };

/* ---- normalisation --------------------------------------------------------------------------- */

/* NFC of n <= capacity bytes of valid UTF-8.
 * A code point has at most 18 after full decomposition. */
static bool nfc_span(aa_text *out, const unsigned char *text, size_t n) {
    utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    utf8proc_ssize_t need = utf8proc_decompose(text, (utf8proc_ssize_t)n, NULL, 0, options);
    utf8proc_int32_t *codes = need < 0 ? NULL : aa_heap_alloc((size_t)need + 1, sizeof *codes);
    if (!codes) return false;
    utf8proc_ssize_t k = utf8proc_decompose(text, (utf8proc_ssize_t)n, codes, need, options);
    if (k >= 0) k = utf8proc_reencode(codes, k, options);
    if (k >= 0) aa_text_add_bytes(out, codes, (size_t)k);
    aa_heap_free(codes);
    return k >= 0;
}

/* ASCII never combines with what is before it, so each stretch from an ASCII byte to the next is
 * normalised by itself, and ASCII alone is copied. */
void aa__nfc(aa_text *out, const unsigned char *text, size_t n) {
    size_t copied = 0;
    for (size_t at = 0; at < n;) {
        if (text[at] < 0x80) {
            at++;
            continue;
        }
        uint32_t code, k = 0;
        size_t begin = at && text[at - 1] < 0x80 ? at - 1 : at, stop = at;
        while (stop < n && text[stop] >= 0x80 &&
               (k = aa__utf8_decode(text + stop, n - stop, &code)))
            stop += k;
        if (stop == at) {
            at++;
            continue;
        } /* an invalid byte */
        if (begin < copied) begin = copied;
        aa_text_add_bytes(out, text + copied, begin - copied);
        if (!nfc_span(out, text + begin, stop - begin)) out->failed = true;
        copied = at = stop;
    }
    aa_text_add_bytes(out, text + copied, n - copied);
}

void aa__normalize(const aa_tokenizer *t, aa_text *out, const unsigned char *text, size_t n,
                   bool first) {
    if (t->kind != AA_TOKENIZER_SPM) {
        aa__nfc(out, text, n);
        return;
    }
    if (first && t->prefix == AA_PREFIX_ALWAYS) aa_text_add(out, " ");
    aa__unmark_spaces(out, (const char *)text, n);
}

/* ---- pieces ---------------------------------------------------------------------------------- */

static void on_piece(void *ctx, const unsigned char *piece, size_t n) {
    aa__encode_piece(ctx, piece, n);
}

static aa_status encode_pieces(aa__encoder *e, const unsigned char *text, size_t n, aa_err *err) {
    const aa_tokenizer *t = e->t;
    if (t->kind == AA_TOKENIZER_BYTES) {
        if (!aa__ids_reserve(e->out, n)) {
            e->failed = true;
            return AA_OK;
        }
        for (size_t i = 0; i < n; i++) e->out->data[e->out->len++] = text[i];
        return AA_OK;
    }
    if (t->split == AA_SPLIT_REGEX) return aa__regex_split(t->pcre, text, n, on_piece, e, err);
    for (size_t at = 0; at < n && !e->failed;) {
        size_t next = aa__split_next(t->split, text, at, n);
        aa__encode_piece(e, text + at, next - at);
        at = next;
    }
    return AA_OK;
}

/* Where in the text a stretch without added tokens begins. A stretch may come in several parts. */
typedef enum { CONTINUED, STRETCH, TEXT } beginning;

/* A normalised stretch; AA_PREFIX_ALWAYS is the normaliser's work. */
static aa_status encode_stretch(aa__encoder *e, const unsigned char *text, size_t n, beginning at,
                                aa_err *err) {
    aa_prefix prefix = e->t->prefix;
    bool wanted = (prefix == AA_PREFIX_UNLESS_SPACE && at != CONTINUED) ||
                  (prefix == AA_PREFIX_FIRST && at == TEXT);
    if (!n || !wanted || text[0] == ' ') return encode_pieces(e, text, n, err);
    aa_text spaced = {0};
    aa_text_add(&spaced, " ");
    aa_text_add_bytes(&spaced, text, n);
    aa_status st = aa_text_status(&spaced, err);
    if (!st) st = encode_pieces(e, (const unsigned char *)spaced.data, spaced.len, err);
    aa_text_release(&spaced);
    return st;
}

/* *text, normalised where the tokenizer asks for it; then it is the encoder's until the next. */
static aa_status normalize(aa__encoder *e, const unsigned char **text, size_t *n, beginning at,
                           aa_err *err) {
    if (!aa__has_normalizer(e->t)) return AA_OK;
    aa_text_clear(&e->normal);
    aa__normalize(e->t, &e->normal, *text, *n, at != CONTINUED);
    *text = (const unsigned char *)e->normal.data;
    *n = e->normal.len;
    return aa_text_status(&e->normal, err);
}

/* ---- added tokens ---------------------------------------------------------------------------- */

typedef struct matcher {
    const aa_tokenizer *t;
    bool specials, normalized; /* which tokens are looked for */
    bool any, first[256];      /* bytes they begin with */
} matcher;

static bool wanted(const matcher *m, const aa_added_token *a) {
    return a->normalized == m->normalized && (m->specials || !a->special);
}

static matcher matcher_of(const aa_tokenizer *t, unsigned flags, bool normalized) {
    matcher m = {.t = t, .specials = flags & AA_ENCODE_SPECIALS, .normalized = normalized};
    for (size_t i = 0; i < t->n_added; i++) {
        if (!wanted(&m, &t->added[t->match[i].added])) continue;
        m.any = true;
        m.first[(unsigned char)t->match[i].text[0]] = true;
    }
    return m;
}

/* The longest token at the first place where one is; false if there is none from `at` on. */
static bool find_added(const matcher *m, const unsigned char *text, size_t at, size_t n,
                       size_t *begin, size_t *end, const aa_added_token **found) {
    for (; m->any && at < n; at++) {
        if (!m->first[text[at]]) continue;
        for (size_t i = 0; i < m->t->n_added; i++) {
            const struct aa__match *x = &m->t->match[i];
            const aa_added_token *a = &m->t->added[x->added];
            if (x->len > n - at || x->text[0] != (char)text[at] ||
                memcmp(x->text, text + at, x->len) != 0 || !wanted(m, a))
                continue;
            *begin = at;
            *end = at + x->len;
            *found = a;
            return true;
        }
    }
    return false;
}

static size_t symbol_before(const unsigned char *text, size_t at, uint32_t *code) {
    uint32_t k = 1;
    while (k < 4 && k < at && (text[at - k] & 0xC0) == 0x80) k++;
    if (aa__utf8_decode(text + at - k, k, code) == k) return at - k;
    *code = 0xFFFD;
    return at - 1;
}

/* \w of the library's single_word test: letters, marks, decimal digits, connectors, joiners. */
static bool is_word(uint32_t code) {
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return code == 0x200C || code == 0x200D;
    }
}

static bool is_single_word(const unsigned char *text, size_t begin, size_t end, size_t n) {
    uint32_t code;
    if (begin) {
        symbol_before(text, begin, &code);
        if (is_word(code)) return false;
    }
    return end == n || !aa__utf8_decode(text + end, n - end, &code) || !is_word(code);
}

/* Widens a match over the white space its token swallows, but not over what is already used. */
static void strip(const aa_added_token *a, const unsigned char *text, size_t used, size_t n,
                  size_t *begin, size_t *end) {
    uint32_t code;
    while (a->lstrip && *begin > used) {
        size_t before = symbol_before(text, *begin, &code);
        if (before < used || aa__class_of(code) != AA__SPACE) break;
        *begin = before;
    }
    while (a->rstrip && *end < n) {
        aa__symbol s = aa__symbol_at(text + *end, n - *end);
        if (s.class != AA__SPACE) break;
        *end += s.n_bytes;
    }
}

/* Hands out what is between added tokens (id -1) and the tokens, in order. */
typedef aa_status stretch_fn(void *ctx, int32_t id, const unsigned char *text, size_t n,
                             aa_err *err);

static aa_status each_stretch(const matcher *m, const unsigned char *text, size_t n, stretch_fn *fn,
                              void *ctx, aa_err *err) {
    size_t used = 0, begin, end;
    const aa_added_token *a;
    for (size_t from = 0; find_added(m, text, from, n, &begin, &end, &a);) {
        from = end;
        if (a->single_word && !is_single_word(text, begin, end, n)) continue;
        if (begin < used) begin = used;
        strip(a, text, used, n, &begin, &end);
        if (begin > used) AA_TRY(fn(ctx, -1, text + used, begin - used, err));
        AA_TRY(fn(ctx, a->id, text + begin, end > begin ? end - begin : 0, err));
        used = end;
    }
    return used < n ? fn(ctx, -1, text + used, n - used, err) : AA_OK;
}

/* ---- one thread ------------------------------------------------------------------------------ */

typedef struct serial {
    aa__encoder *e;
    unsigned flags;
    const unsigned char *text; /* all of it */
    beginning at;              /* of what comes next */
} serial;

static aa_status push_id(aa__encoder *e, int32_t id) {
    if (!aa__ids_reserve(e->out, 1)) e->failed = true;
    else e->out->data[e->out->len++] = id;
    return AA_OK;
}

static aa_status on_normalized(void *ctx, int32_t id, const unsigned char *text, size_t n,
                               aa_err *err) {
    serial *s = ctx;
    beginning at = s->at;
    s->at = STRETCH;
    return id >= 0 ? push_id(s->e, id) : encode_stretch(s->e, text, n, at, err);
}

static aa_status on_raw(void *ctx, int32_t id, const unsigned char *text, size_t n, aa_err *err) {
    serial *s = ctx;
    if (id >= 0) return push_id(s->e, id);
    s->at = text == s->text ? TEXT : STRETCH;
    AA_TRY(normalize(s->e, &text, &n, s->at, err));
    matcher m = matcher_of(s->e->t, s->flags, true);
    return each_stretch(&m, text, n, on_normalized, s, err);
}

static aa_status status_of(const aa__encoder *e, size_t n, aa_err *err) {
    return e->failed ? aa_fail_memory(err, "encoding text", n) : AA_OK;
}

aa_status aa__encode_with(aa__encoder *e, const char *text, size_t n, unsigned flags, aa_ids *out,
                          aa_err *err) {
    serial s = {.e = e, .flags = flags, .text = (const unsigned char *)text};
    e->out = out;
    matcher m = matcher_of(e->t, flags, false);
    AA_TRY(each_stretch(&m, (const unsigned char *)text, n, on_raw, &s, err));
    return status_of(e, n, err);
}

static aa_status begin(const aa_tokenizer *t, unsigned flags, aa_ids *out, aa_err *err) {
    if (!(flags & AA_ENCODE_BOS) || !t->add_bos) return AA_OK;
    if (!aa__ids_reserve(out, 1)) return aa_fail_memory(err, "encoding text", 4);
    out->data[out->len++] = t->bos;
    return AA_OK;
}

aa_status aa_encode(const aa_tokenizer *t, const char *text, size_t n, unsigned flags, aa_ids *out,
                    aa_err *err) {
    size_t before = out->len;
    aa__encoder e = {.t = t};
    aa_status st = begin(t, flags, out, err);
    if (!st) st = aa__encode_with(&e, text, n, flags, out, err);
    if (st) out->len = before;
    aa__encoder_release(&e);
    return st;
}

/* ---- what is learned -------------------------------------------------------------------------
 *
 * The pieces of a stretch's ids, end to end, are the stretch as the normaliser left it, perhaps
 * behind a space. Where a span begins or ends in it is as far as the normalised text before that
 * place is long: no normaliser looks further than to the next ASCII byte, and templates have one
 * there. An id that only partly lies in a span is learned, as transformers does it.
 */

typedef struct marker {
    serial s;
    const aa_span *span;
    size_t n_spans;
} marker;

static size_t id_bytes(const aa_tokenizer *t, int32_t id) {
    if (t->kind == AA_TOKENIZER_BYTES && id < 256) return 1;
    int32_t added = t->added_at[id];
    return added >= 0 ? t->added[added].len : t->piece_len[id];
}

static void learn(aa_ids *ids, size_t i) {
    if (ids->data[i] < 0) ids->data[i] = ~ids->data[i];
}

static aa_status normal_length(marker *m, const unsigned char *text, size_t n, size_t *out,
                               aa_err *err) {
    *out = n;
    return normalize(m->s.e, &text, out, STRETCH, err);
}

/* The ids from `first` on are those of the stretch text[n]. */
static aa_status mark_stretch(marker *m, const unsigned char *text, size_t n, size_t first,
                              aa_err *err) {
    const aa_tokenizer *t = m->s.e->t;
    aa_ids *ids = m->s.e->out;
    size_t raw = (size_t)(text - m->s.text), total = 0, normal;
    bool known = true;
    for (size_t i = first; i < ids->len; i++) {
        total += id_bytes(t, ids->data[i]);
        known &= ids->data[i] != t->unk;
        ids->data[i] = ~ids->data[i];
    }
    AA_TRY(normal_length(m, text, n, &normal, err));
    if (!known || total < normal || total > normal + 1)
        return aa_fail(err, AA_EUNSUPPORTED, "the tokenizer lacks pieces for some of the text, so "
                                             "what is to be learned of it cannot be told apart");
    size_t space = total - normal;
    for (size_t k = 0; k < m->n_spans; k++) {
        const aa_span *s = &m->span[k];
        size_t begin = 0, end = total, at = 0;
        if (s->end <= raw || s->begin >= raw + n) continue;
        if (s->begin > raw) AA_TRY(normal_length(m, text, s->begin - raw, &begin, err));
        if (s->end < raw + n) AA_TRY(normal_length(m, text, s->end - raw, &end, err));
        if (s->begin > raw) begin += space;
        if (s->end < raw + n) end += space;
        for (size_t i = first; i < ids->len && at < end; i++) {
            at += id_bytes(t, ids->data[i] < 0 ? ~ids->data[i] : ids->data[i]);
            if (at > begin) learn(ids, i);
        }
    }
    return AA_OK;
}

static aa_status on_marked(void *ctx, int32_t id, const unsigned char *text, size_t n,
                           aa_err *err) {
    marker *m = ctx;
    aa_ids *ids = m->s.e->out;
    size_t first = ids->len, raw = (size_t)(text - m->s.text);
    AA_TRY(on_raw(&m->s, id, text, n, err));
    if (m->s.e->failed) return AA_OK;
    if (id < 0) return mark_stretch(m, text, n, first, err);
    ids->data[first] = ~id;
    for (size_t k = 0; k < m->n_spans; k++)
        if (m->span[k].begin < raw + n && m->span[k].end > raw) learn(ids, first);
    return AA_OK;
}

aa_status aa__encode_learned(aa__encoder *e, const char *text, size_t n, unsigned flags,
                             const aa_span *span, size_t n_spans, aa_ids *out, aa_err *err) {
    marker m = {.s = {.e = e, .flags = flags, .text = (const unsigned char *)text},
                .span = span,
                .n_spans = n_spans};
    e->out = out;
    matcher raw = matcher_of(e->t, flags, false);
    AA_TRY(begin(e->t, flags, out, err));
    if ((flags & AA_ENCODE_BOS) && e->t->add_bos) out->data[out->len - 1] = ~e->t->bos;
    AA_TRY(each_stretch(&raw, m.s.text, n, on_marked, &m, err));
    return status_of(e, n, err);
}

/* ---- all threads -----------------------------------------------------------------------------
 *
 * Added tokens are found first, by one thread: that is a glance at each byte. What is between them
 * is cut into chunks where a cut changes nothing (aa__split_cut), and groups of chunks are encoded
 * apart. Tokens that are looked for in normalised text leave no such order; those tokenizers encode
 * by one thread.
 */

typedef struct chunk {
    const unsigned char *text;
    size_t n;
    int32_t id;
    beginning at;
} chunk;

typedef struct parallel {
    const aa_tokenizer *t;
    const unsigned char *text; /* all of it */
    chunk *chunk;
    size_t n_chunks, capacity;
    size_t n_groups;
    aa_ids *group;
    aa_status *status;
    aa_err *err;          /* of each group; err: of the first that fails */
    aa__encoder *encoder; /* of each thread */
} parallel;

static aa_status add_chunk(parallel *p, chunk c, aa_err *err) {
    if (p->n_chunks == p->capacity) {
        size_t capacity = p->capacity ? 2 * p->capacity : 256;
        chunk *grown = aa_heap_realloc(p->chunk, capacity, sizeof *grown);
        if (!grown) return aa_fail_memory(err, "the chunks of a text", capacity * sizeof *grown);
        p->chunk = grown;
        p->capacity = capacity;
    }
    p->chunk[p->n_chunks++] = c;
    return AA_OK;
}

static aa_status on_chunks(void *ctx, int32_t id, const unsigned char *text, size_t n,
                           aa_err *err) {
    parallel *p = ctx;
    if (id >= 0) return add_chunk(p, (chunk){.id = id}, err);
    for (size_t at = 0; at < n;) {
        size_t next = n - at > CHUNK_BYTES ? aa__split_cut(p->t, text, at + CHUNK_BYTES, n) : n;
        beginning begins = at ? CONTINUED : text == p->text ? TEXT : STRETCH;
        AA_TRY(add_chunk(p, (chunk){text + at, next - at, -1, begins}, err));
        at = next;
    }
    return AA_OK;
}

static aa_status encode_chunk(aa__encoder *e, const chunk *c, aa_err *err) {
    if (c->id >= 0) return push_id(e, c->id);
    const unsigned char *text = c->text;
    size_t n = c->n;
    AA_TRY(normalize(e, &text, &n, c->at, err));
    return encode_stretch(e, text, n, c->at, err);
}

static void encode_groups(void *ctx, size_t first, size_t end, int thread) {
    parallel *p = ctx;
    aa__encoder *e = &p->encoder[thread];
    for (size_t g = first; g < end; g++) {
        e->out = &p->group[g];
        aa_status st = AA_OK;
        size_t i = p->n_chunks * g / p->n_groups, stop = p->n_chunks * (g + 1) / p->n_groups;
        for (; !st && i < stop; i++) st = encode_chunk(e, &p->chunk[i], &p->err[g]);
        p->status[g] = st ? st : status_of(e, 0, &p->err[g]);
    }
}

static aa_status gather(const parallel *p, aa_ids *out, aa_err *err) {
    size_t total = 0;
    for (size_t g = 0; g < p->n_groups; g++) {
        if (p->status[g]) return aa_fail(err, p->status[g], "%s", p->err[g].message);
        total += p->group[g].len;
    }
    if (!aa__ids_reserve(out, total))
        return aa_fail_memory(err, "encoding text", total * sizeof *out->data);
    for (size_t g = 0; g < p->n_groups; g++) {
        if (p->group[g].len)
            memcpy(out->data + out->len, p->group[g].data, p->group[g].len * sizeof *out->data);
        out->len += p->group[g].len;
    }
    return AA_OK;
}

static aa_status run_groups(parallel *p, aa_pool *pool, aa_ids *out, aa_err *err) {
    size_t n_threads = (size_t)aa_pool_threads(pool);
    p->n_groups = p->n_chunks < GROUPS_MAX ? p->n_chunks : GROUPS_MAX;
    p->group = aa_heap_alloc(p->n_groups + 1, sizeof *p->group);
    p->status = aa_heap_alloc(p->n_groups + 1, sizeof *p->status);
    p->err = aa_heap_alloc(p->n_groups + 1, sizeof *p->err);
    p->encoder = aa_heap_alloc(n_threads, sizeof *p->encoder);
    aa_status st = p->group && p->status && p->err && p->encoder
                       ? AA_OK
                       : aa_fail_memory(err, "encoding text", 0);
    if (!st) {
        for (size_t i = 0; i < n_threads; i++) p->encoder[i].t = p->t;
        aa_pool_run(pool, p->n_groups, encode_groups, p);
        st = gather(p, out, err);
        for (size_t i = 0; i < n_threads; i++) aa__encoder_release(&p->encoder[i]);
        for (size_t g = 0; g < p->n_groups; g++) aa_ids_release(&p->group[g]);
    }
    aa_heap_free(p->group);
    aa_heap_free(p->status);
    aa_heap_free(p->err);
    aa_heap_free(p->encoder);
    return st;
}

aa_status aa_encode_parallel(const aa_tokenizer *t, aa_pool *pool, const char *text, size_t n,
                             unsigned flags, aa_ids *out, aa_err *err) {
    matcher raw = matcher_of(t, flags, false);
    if (n <= CHUNK_BYTES || matcher_of(t, flags, true).any)
        return aa_encode(t, text, n, flags, out, err);
    size_t before = out->len;
    parallel p = {.t = t, .text = (const unsigned char *)text};
    aa_status st = begin(t, flags, out, err);
    if (!st) st = each_stretch(&raw, (const unsigned char *)text, n, on_chunks, &p, err);
    if (!st) st = run_groups(&p, pool, out, err);
    if (st) out->len = before;
    aa_heap_free(p.chunk);
    return st;
}
