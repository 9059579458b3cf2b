/* data/tokenizer: the vocabulary, made once from a spec and checked there, so that encoding and
 * decoding need no checks of it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "data/tokenizer_int.h"

void aa_ids_release(aa_ids *ids) {
    aa_heap_free(ids->data);
    *ids = (aa_ids){0};
}

bool aa__ids_reserve(aa_ids *ids, size_t extra) {
    if (ids->capacity - ids->len >= extra) return true;
    size_t capacity = ids->capacity < 64 ? 64 : 2 * ids->capacity;
    if (capacity < ids->len + extra) capacity = ids->len + extra;
    int32_t *data = aa_heap_realloc(ids->data, capacity, sizeof *data);
    if (!data) return false;
    ids->data = data;
    ids->capacity = capacity;
    return true;
}

/* ---- GPT-2's stand-ins
 * ------------------------------------------------------------------------------
 *
 * Printable Latin-1 bytes stand for themselves as code points; the other 68, in order, for
 * U+0100.... */

static bool stands_for_itself(uint32_t b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
}

uint32_t aa__stand_in(unsigned char byte) {
    if (stands_for_itself(byte)) return byte;
    return byte <= 32 ? 256u + byte : byte <= 160 ? 289u + (byte - 127u) : 323u;
}

int aa__stand_in_byte(uint32_t code) {
    if (code < 256) return stands_for_itself(code) ? (int)code : -1;
    if (code <= 288) return (int)(code - 256);
    return code <= 322 ? (int)(code - 289 + 127) : code == 323 ? 173 : -1;
}

void aa__stand_in_text(aa_text *out, const char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t c = aa__stand_in((unsigned char)bytes[i]);
        char utf8[2] = {(char)(0xC0 | c >> 6), (char)(0x80 | (c & 63))};
        if (c < 128) utf8[0] = (char)c;
        aa_text_add_bytes(out, utf8, c < 128 ? 1 : 2);
    }
}

bool aa__stand_in_bytes(const char *key, size_t n, char *out, size_t *out_n) {
    size_t m = 0;
    for (size_t i = 0; i < n;) {
        uint32_t code, k = aa__utf8_decode((const unsigned char *)key + i, n - i, &code);
        int byte = k ? aa__stand_in_byte(code) : -1;
        if (byte < 0) return false;
        out[m++] = (char)byte;
        i += k;
    }
    *out_n = m;
    return true;
}

/* ---- pieces ---------------------------------------------------------------------------------- */

uint64_t aa__hash_bytes(const void *p, size_t n) {
    const unsigned char *s = p;
    uint64_t h = n, w;
    for (; n >= 8; n -= 8, s += 8) {
        memcpy(&w, s, 8);
        h = aa__mix(h ^ w);
    }
    w = 0;
    memcpy(&w, s, n);
    return aa__mix(aa__mix(h ^ w));
}

int32_t aa__piece_id(const aa_tokenizer *t, const void *p, size_t n) {
    for (size_t i = aa__hash_bytes(p, n) & t->piece_mask;; i = (i + 1) & t->piece_mask) {
        int32_t id = t->piece_table[i];
        if (id < 0 || (t->piece_len[id] == n && memcmp(t->piece[id], p, n) == 0)) return id;
    }
}

static size_t table_size(size_t n) {
    size_t size = 16;
    while (size < 2 * n) size *= 2;
    return size;
}

static aa_status check_spec(const aa_tokenizer_spec *s, aa_err *err) {
    if (s->n_vocab > AA__VOCAB_MAX || s->n_merges > AA__VOCAB_MAX || s->n_added > AA__VOCAB_MAX)
        return aa_fail(
            err, AA_EFORMAT,
            "a tokenizer with %zu ids, %zu merges, %zu added tokens; the limit is %d of each",
            s->n_vocab, s->n_merges, s->n_added, AA__VOCAB_MAX);
    size_t most = s->kind == AA_TOKENIZER_SPM ? AA__SPM_PIECE_MAX : AA__PIECE_MAX;
    for (size_t i = 0; i < s->n_vocab; i++) {
        if (s->piece[i] && (!s->piece_len[i] || s->piece_len[i] > most))
            return aa_fail(err, AA_EFORMAT, "id %zu stands for %zu bytes; 1 to %zu are possible", i,
                           s->piece_len[i], most);
        if (s->score && isnan(s->score[i]))
            return aa_fail(err, AA_EFORMAT, "the score of id %zu is not a number", i);
    }
    for (size_t i = 0; i < s->n_added; i++) {
        const aa_added_token *a = &s->added[i];
        if (a->id < 0 || a->id >= AA__VOCAB_MAX || !a->len || a->len > AA__PIECE_MAX)
            return aa_fail(
                err, AA_EFORMAT,
                "added token %zu has id %d and %zu bytes; ids are 0 to %d, lengths 1 to %d", i,
                a->id, a->len, AA__VOCAB_MAX - 1, AA__PIECE_MAX);
    }
    if (s->split == AA_SPLIT_REGEX && !s->regex)
        return aa_fail(err, AA_EFORMAT, "a regex pre-tokenizer without its pattern");
    return AA_OK;
}

static aa_status same_bytes(int32_t a, int32_t b, aa_err *err) {
    return aa_fail(err, AA_EFORMAT, "ids %d and %d stand for the same bytes", a, b);
}

/* Byte tokens are reached by their bytes, not by their text. Of two SPM pieces alike the first is
 * in the table: see check_alike. */
static aa_status enter_piece(aa_tokenizer *t, int32_t id, aa_err *err) {
    const char *p = t->piece[id];
    size_t n = t->piece_len[id];
    bool spm = t->kind == AA_TOKENIZER_SPM, byte = aa__is_byte(t, id);
    if (byte && (n != 1 || t->byte_id[(unsigned char)*p] >= 0))
        return aa_fail(err, AA_EFORMAT, "id %d is a byte token, but stands for %s", id,
                       n != 1 ? "more than a byte" : "the byte of another one");
    if (n == 1 && byte == spm) t->byte_id[(unsigned char)*p] = id;
    if (byte) return AA_OK;
    int32_t same = aa__piece_id(t, p, n);
    if (same >= 0) return spm ? AA_OK : same_bytes(same, id, err);
    size_t at = aa__hash_bytes(p, n) & t->piece_mask;
    while (t->piece_table[at] >= 0) at = (at + 1) & t->piece_mask;
    t->piece_table[at] = id;
    return AA_OK;
}

static aa_status copy_pieces(aa_tokenizer *t, const aa_tokenizer_spec *s, aa_err *err) {
    size_t total = 0, size = table_size(s->n_vocab);
    for (size_t i = 0; i < s->n_vocab; i++) total += s->piece[i] ? s->piece_len[i] : 0;
    char *bytes = aa_arena_alloc(&t->arena, total, 1);
    t->piece = aa_arena_alloc(&t->arena, t->n_vocab, sizeof *t->piece);
    t->piece_len = aa_arena_alloc(&t->arena, t->n_vocab, sizeof *t->piece_len);
    t->piece_table = aa_arena_alloc(&t->arena, size, sizeof *t->piece_table);
    if (s->token_type) t->token_type = aa_arena_alloc(&t->arena, t->n_vocab, 1);
    if (s->score) t->score = aa_arena_alloc(&t->arena, t->n_vocab, sizeof *t->score);
    AA_TRY(aa_arena_status(&t->arena, err));
    memset(t->piece_table, 0xFF, size * sizeof *t->piece_table);
    memset(t->byte_id, 0xFF, sizeof t->byte_id);
    t->piece_mask = size - 1;
    if (s->token_type) memcpy(t->token_type, s->token_type, s->n_vocab);
    if (s->score) memcpy(t->score, s->score, s->n_vocab * sizeof *t->score);
    for (size_t i = 0; i < s->n_vocab; i++) {
        if (!s->piece[i]) continue;
        memcpy(bytes, s->piece[i], s->piece_len[i]);
        t->piece[i] = bytes;
        t->piece_len[i] = (uint32_t)s->piece_len[i];
        bytes += s->piece_len[i];
        AA_TRY(enter_piece(t, (int32_t)i, err));
    }
    return AA_OK;
}

/* ---- merges ---------------------------------------------------------------------------------- */

/* A pair that is listed twice has its later rank, as in the `tokenizers` library. */
static aa_status add_merge(aa_tokenizer *t, int32_t l, int32_t r, size_t rank, aa_text *both,
                           aa_err *err) {
    size_t n = t->n_vocab, i = t->n_merges;
    if (l < 0 || r < 0 || (size_t)l >= n || (size_t)r >= n || !t->piece[l] || !t->piece[r])
        return aa_fail(err, AA_EFORMAT,
                       "merge %zu joins ids %d and %d, which are not both in the vocabulary", i, l,
                       r);
    aa_text_clear(both);
    aa_text_add_bytes(both, t->piece[l], t->piece_len[l]);
    aa_text_add_bytes(both, t->piece[r], t->piece_len[r]);
    AA_TRY(aa_text_status(both, err));
    int32_t id = aa__piece_id(t, both->data, both->len);
    if (id < 0)
        return aa_fail(err, AA_EFORMAT, "merge %zu joins ids %d and %d into a piece that has no id",
                       i, l, r);
    t->merges[i][0] = l;
    t->merges[i][1] = r;
    t->n_merges++;
    uint64_t key = aa__pair_key(l, r);
    size_t at = aa__mix(key) & t->pair_mask;
    while (t->pair_table[at].key != UINT64_MAX && t->pair_table[at].key != key)
        at = (at + 1) & t->pair_mask;
    t->pair_table[at] = (aa__pair){key, (uint32_t)rank, id};
    return AA_OK;
}

static aa_status make_merges(aa_tokenizer *t, size_t n, aa_err *err) {
    size_t size = table_size(n);
    t->merges = aa_arena_alloc(&t->arena, n, sizeof *t->merges);
    t->pair_table = aa_arena_alloc(&t->arena, size, sizeof *t->pair_table);
    AA_TRY(aa_arena_status(&t->arena, err));
    t->pair_mask = size - 1;
    for (size_t i = 0; i < size; i++) t->pair_table[i].key = UINT64_MAX;
    return AA_OK;
}

static aa_status copy_merges(aa_tokenizer *t, const aa_tokenizer_spec *s, aa_err *err) {
    size_t n = s->n_merges, rank = 0;
    aa__join *joins = NULL;
    aa_text both = {0};
    if (s->score) AA_TRY(aa__derive_joins(t, &joins, &n, err));
    aa_status st = make_merges(t, n, err);
    for (size_t i = 0; !st && i < n; i++) {
        if (!joins || joins[i].score != joins[rank].score) rank = i;
        st = joins ? add_merge(t, joins[i].left, joins[i].right, rank, &both, err)
                   : add_merge(t, s->merges[i][0], s->merges[i][1], rank, &both, err);
    }
    aa_text_release(&both);
    aa_heap_free(joins);
    return st;
}

/* ---- added tokens ---------------------------------------------------------------------------- */

static int by_id(const void *a, const void *b) {
    int32_t x = ((const aa_added_token *)a)->id, y = ((const aa_added_token *)b)->id;
    return (x > y) - (x < y);
}

/* Longest first; equal ones meet. */
static int by_match(const void *a, const void *b) {
    const struct aa__match *x = a, *y = b;
    if (x->len != y->len) return x->len < y->len ? 1 : -1;
    return memcmp(x->text, y->text, x->len);
}

/* The id of the piece whose key in tokenizer.json is text, or -1. */
static aa_status id_of_key(const aa_tokenizer *t, const char *text, size_t n, int32_t *out,
                           aa_err *err) {
    int byte = aa__byte_of_text(text, n);
    aa_text bytes = {0};
    *out = -1;
    if (t->kind != AA_TOKENIZER_SPM) {
        char *p = aa_heap_alloc(n, 1);
        if (!p) return aa_fail_memory(err, "an added token", n);
        if (aa__stand_in_bytes(text, n, p, &n)) *out = aa__piece_id(t, p, n);
        aa_heap_free(p);
    } else if (byte >= 0 && t->byte_id[byte] >= 0) *out = t->byte_id[byte];
    else if (!memchr(text, ' ', n)) {
        aa__unmark_spaces(&bytes, text, n);
        if (!bytes.failed) *out = aa__piece_id(t, bytes.data, bytes.len);
    }
    aa_status st = aa_text_status(&bytes, err);
    aa_text_release(&bytes);
    return st;
}

/* In tokenizer.json an added token and a piece of the vocabulary are the same where their keys are.
 * An added token that is a piece, too, has its own text for key. */
static aa_status check_added(const aa_tokenizer *t, const aa_added_token *a, aa_err *err) {
    int32_t same;
    AA_TRY(id_of_key(t, a->text, a->len, &same, err));
    if (same == a->id || (same < 0 && (!t->piece[a->id] || t->kind == AA_TOKENIZER_SPM)))
        return AA_OK;
    return aa_fail(err, AA_EFORMAT, "added token '%.*s' has id %d; the vocabulary says otherwise",
                   (int)(a->len < 60 ? a->len : 60), a->text, a->id);
}

/* Only an added token may stand for the same bytes as another id: its key may differ. */
static aa_status check_alike(const aa_tokenizer *t, aa_err *err) {
    for (size_t i = 0; t->kind == AA_TOKENIZER_SPM && i < t->n_vocab; i++) {
        int32_t id = (int32_t)i;
        if (!t->piece[i] || aa__is_byte(t, id)) continue;
        int32_t same = aa__piece_id(t, t->piece[i], t->piece_len[i]);
        if (same != id && t->added_at[id] < 0 && t->added_at[same] < 0)
            return same_bytes(same, id, err);
    }
    return AA_OK;
}

static aa_status copy_added(aa_tokenizer *t, const aa_tokenizer_spec *s, aa_err *err) {
    t->added = aa_arena_alloc(&t->arena, s->n_added, sizeof *t->added);
    t->match = aa_arena_alloc(&t->arena, s->n_added, sizeof *t->match);
    t->added_at = aa_arena_alloc(&t->arena, t->n_vocab, sizeof *t->added_at);
    AA_TRY(aa_arena_status(&t->arena, err));
    memset(t->added_at, 0xFF, t->n_vocab * sizeof *t->added_at);
    if (s->n_added) memcpy(t->added, s->added, s->n_added * sizeof *t->added);
    t->n_added = s->n_added;
    if (t->n_added) qsort(t->added, t->n_added, sizeof *t->added, by_id);
    for (size_t i = 0; i < t->n_added; i++) {
        aa_added_token *a = &t->added[i];
        if (i && a->id == a[-1].id)
            return aa_fail(err, AA_EFORMAT, "two added tokens have id %d", a->id);
        AA_TRY(check_added(t, a, err));
        a->text = aa_arena_strdup(&t->arena, a->text, a->len);
        AA_TRY(aa_arena_status(&t->arena, err));
        t->added_at[a->id] = (int32_t)i;
        t->match[i] = (struct aa__match){a->text, a->len, (int32_t)i};
        if (!aa__has_normalizer(t) || !a->normalized) continue;
        aa_text normal = {0};
        aa__normalize(t, &normal, (const unsigned char *)a->text, a->len, true);
        if (!normal.failed)
            t->match[i] = (struct aa__match){aa_arena_strdup(&t->arena, normal.data, normal.len),
                                             normal.len, (int32_t)i};
        aa_status st = aa_text_status(&normal, err);
        aa_text_release(&normal);
        AA_TRY(st);
        AA_TRY(aa_arena_status(&t->arena, err));
    }
    if (t->n_added) qsort(t->match, t->n_added, sizeof *t->match, by_match);
    for (size_t i = 1; i < t->n_added; i++)
        if (by_match(&t->match[i - 1], &t->match[i]) == 0)
            return aa_fail(err, AA_EFORMAT, "ids %d and %d are both the added token '%.60s'",
                           t->added[t->match[i - 1].added].id, t->added[t->match[i].added].id,
                           t->match[i].text);
    return AA_OK;
}

/* ---- the tokenizer --------------------------------------------------------------------------- */

static aa_status check_role(const aa_tokenizer *t, const char *role, int32_t id, aa_err *err) {
    if (id == -1 || (id >= 0 && (size_t)id < t->n_vocab)) return AA_OK;
    return aa_fail(err, AA_EFORMAT, "the %s token has id %d; ids are 0 to %zu", role, id,
                   t->n_vocab - 1);
}

static aa_status fill(aa_tokenizer *t, const aa_tokenizer_spec *s, aa_err *err) {
    aa_arena_init(&t->arena, "a tokenizer");
    t->kind = s->kind;
    t->split = s->split;
    t->nfc = s->nfc;
    t->ignore_merges = s->ignore_merges;
    t->fuse_unk = s->fuse_unk;
    t->prefix = s->prefix;
    t->add_bos = s->add_bos && s->bos >= 0;
    t->n_vocab = s->n_vocab;
    for (size_t i = 0; i < s->n_added; i++)
        if ((size_t)s->added[i].id >= t->n_vocab) t->n_vocab = (size_t)s->added[i].id + 1;
    if (!t->n_vocab) return aa_fail(err, AA_EFORMAT, "a tokenizer without any ids");
    AA_TRY(copy_pieces(t, s, err));
    AA_TRY(copy_added(t, s, err));
    AA_TRY(check_alike(t, err));
    AA_TRY(copy_merges(t, s, err));
    if (t->kind == AA_TOKENIZER_SPM && !t->ignore_merges && !aa__has_inner_space(t))
        t->split = AA_SPLIT_SPACES;
    t->bos = s->bos;
    t->eos = s->eos;
    t->pad = s->pad;
    t->unk = s->unk;
    AA_TRY(check_role(t, "bos", t->bos, err));
    AA_TRY(check_role(t, "eos", t->eos, err));
    AA_TRY(check_role(t, "padding", t->pad, err));
    AA_TRY(check_role(t, "unknown", t->unk, err));
    if (t->split == AA_SPLIT_REGEX) {
        t->regex = aa_arena_strdup(&t->arena, s->regex, strlen(s->regex));
        AA_TRY(aa_arena_status(&t->arena, err));
        AA_TRY(aa__regex_compile(&t->pcre, t->regex, err));
    }
    aa_text json = {0};
    aa_status st = aa_tokenizer_write_json(t, &json, err);
    if (!st) t->digest = aa_digest_bytes(json.data, json.len);
    aa_text_release(&json);
    return st;
}

aa_status aa_tokenizer_new(aa_tokenizer **out, const aa_tokenizer_spec *spec, aa_err *err) {
    AA_TRY(check_spec(spec, err));
    aa_tokenizer *t = aa_heap_alloc(1, sizeof *t);
    if (!t) return aa_fail_memory(err, "a tokenizer", sizeof *t);
    aa_status st = fill(t, spec, err);
    if (st) aa_tokenizer_free(t);
    else *out = t;
    return st;
}

void aa_tokenizer_free(aa_tokenizer *t) {
    if (!t) return;
    aa__regex_free(t->pcre);
    aa_arena_release(&t->arena);
    aa_heap_free(t);
}

aa_status aa_tokenizer_new_bytes(aa_tokenizer **out, aa_err *err) {
    char bytes[256], end[] = AA__END_OF_TEXT;
    const char *piece[256];
    size_t piece_len[256];
    for (int b = 0; b < 256; b++) {
        bytes[b] = (char)b;
        piece[b] = &bytes[b];
        piece_len[b] = 1;
    }
    aa_added_token added = {.id = 256, .text = end, .len = sizeof end - 1, .special = true};
    aa_tokenizer_spec spec = {.kind = AA_TOKENIZER_BYTES,
                              .split = AA_SPLIT_NONE,
                              .n_vocab = 256,
                              .piece = piece,
                              .piece_len = piece_len,
                              .n_added = 1,
                              .added = &added,
                              .bos = 256,
                              .eos = 256,
                              .pad = -1,
                              .unk = -1};
    return aa_tokenizer_new(out, &spec, err);
}

size_t aa_tokenizer_vocab(const aa_tokenizer *t) { return t->n_vocab; }
int32_t aa_tokenizer_bos(const aa_tokenizer *t) { return t->bos; }
int32_t aa_tokenizer_eos(const aa_tokenizer *t) { return t->eos; }
aa_split aa_tokenizer_split(const aa_tokenizer *t) { return t->split; }
bool aa_tokenizer_add_bos(const aa_tokenizer *t) { return t->add_bos; }
aa_tokenizer_kind aa_tokenizer_kind_of(const aa_tokenizer *t) { return t->kind; }
aa_digest aa_tokenizer_digest(const aa_tokenizer *t) { return t->digest; }

static const aa_added_token *added_of(const aa_tokenizer *t, int32_t id) {
    return id >= 0 && (size_t)id < t->n_vocab && t->added_at[id] >= 0 ? &t->added[t->added_at[id]]
                                                                      : NULL;
}

bool aa_tokenizer_is_special(const aa_tokenizer *t, int32_t id) {
    const aa_added_token *a = added_of(t, id);
    return a && a->special;
}

size_t aa_tokenizer_piece_bytes(const aa_tokenizer *t, int32_t id) {
    const aa_added_token *a = added_of(t, id);
    if (a) return a->special ? 0 : a->len;
    return id >= 0 && (size_t)id < t->n_vocab ? t->piece_len[id] : 0;
}

aa_status aa_decode(const aa_tokenizer *t, const int32_t *ids, size_t n, unsigned flags,
                    aa_text *out, aa_err *err) {
    size_t begin = out->len;
    for (size_t i = 0; i < n; i++) {
        const aa_added_token *a = added_of(t, ids[i]);
        if (a) {
            if ((flags & AA_DECODE_SPECIALS) || !a->special)
                aa_text_add_bytes(out, a->text, a->len);
        } else if (ids[i] < 0 || (size_t)ids[i] >= t->n_vocab || !t->piece[ids[i]]) {
            return aa_fail(
                err, AA_EFORMAT,
                "token %zu is %d, which the tokenizer does not have; its ids are 0 to %zu", i,
                ids[i], t->n_vocab - 1);
        } else {
            aa_text_add_bytes(out, t->piece[ids[i]], t->piece_len[ids[i]]);
        }
    }
    if ((flags & AA_DECODE_START) && t->kind == AA_TOKENIZER_SPM && t->prefix != AA_PREFIX_NONE &&
        out->len > begin && out->data[begin] == ' ')
        memmove(out->data + begin, out->data + begin + 1, out->len-- - begin); /* and the NUL */
    return aa_text_status(out, err);
}
