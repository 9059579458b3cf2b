/* data/spm: what is SentencePiece's own.
 *
 * Such a vocabulary holds no merges: any two neighbours may be joined that make a piece, the best
 * score first. That is a list of merges all the same: one for each way to cut a piece into two
 * others, ranked by the score of the whole. So bpe.c needs to know nothing of scores. Equal scores
 * have equal ranks, and of equal ranks the leftmost is joined, as llama.cpp does; the order of the
 * list is that in which transformers writes it.
 *
 * Files write U+2581 for a space; here pieces hold the space itself.
 */
#include <stdlib.h>
#include <string.h>
#include "data/tokenizer_int.h"

/* ---- spaces and bytes ------------------------------------------------------------------------ */

static void replace(aa_text *out, const char *text, size_t n, const char *from, const char *to) {
    size_t k = strlen(from), done = 0;
    for (size_t at = 0; at + k <= n;) {
        const char *next = memchr(text + at, from[0], n - at);
        if (!next || (size_t)(next - text) + k > n) break;
        at = (size_t)(next - text);
        if (memcmp(next, from, k) != 0) {
            at++;
            continue;
        }
        aa_text_add_bytes(out, text + done, at - done);
        aa_text_add(out, to);
        done = at += k;
    }
    aa_text_add_bytes(out, text + done, n - done);
}

void aa__mark_spaces(aa_text *out, const char *text, size_t n) {
    replace(out, text, n, " ", AA__SPACE_MARK);
}

void aa__unmark_spaces(aa_text *out, const char *text, size_t n) {
    replace(out, text, n, AA__SPACE_MARK, " ");
}

int aa__byte_of_text(const char *text, size_t n) {
    static const char digits[] = "0123456789ABCDEF";
    if (n != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
    const char *high = memchr(digits, text[3], 16), *low = memchr(digits, text[4], 16);
    return high && low ? (int)(16 * (high - digits) + (low - digits)) : -1;
}

bool aa__has_inner_space(const aa_tokenizer *t) {
    for (size_t id = 0; id < t->n_vocab; id++)
        for (uint32_t i = 1; t->piece[id] && i < t->piece_len[id]; i++)
            if (t->piece[id][i] == ' ' && t->piece[id][i - 1] != ' ') return true;
    return false;
}

/* ---- merges ---------------------------------------------------------------------------------- */

static int by_rank(const void *a, const void *b) {
    const aa__join *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->left_n != y->left_n) return x->left_n > y->left_n ? -1 : 1;
    if (x->right_n != y->right_n) return x->right_n > y->right_n ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static uint32_t n_characters(const char *s, size_t n) {
    uint32_t count = 0;
    for (size_t i = 0; i < n; i++) count += (s[i] & 0xC0) != 0x80;
    return count;
}

/* The ways to join two pieces into piece id; how many there are. out may be NULL. */
static size_t joins_of(const aa_tokenizer *t, int32_t id, aa__join *out) {
    const char *p = t->piece[id];
    size_t n = p ? t->piece_len[id] : 0, count = 0;
    if (!n || aa__piece_id(t, p, n) != id || aa_tokenizer_is_special(t, id)) return 0;
    for (size_t k = 1; k < n; k++) {
        if ((p[k] & 0xC0) == 0x80) continue;
        int32_t left = aa__piece_id(t, p, k);
        int32_t right = left < 0 ? -1 : aa__piece_id(t, p + k, n - k);
        if (right < 0) continue;
        if (out)
            out[count] = (aa__join){t->score ? t->score[id] : 0, n_characters(p, k),
                                n_characters(p + k, n - k), id, left, right};
        count++;
    }
    return count;
}

aa_status aa__derive_joins(const aa_tokenizer *t, aa__join **out, size_t *n, aa_err *err) {
    size_t count = 0, at = 0;
    for (size_t id = 0; id < t->n_vocab; id++) count += joins_of(t, (int32_t)id, NULL);
    if (count > AA__JOINS_MAX)
        return aa_fail(err, AA_EFORMAT, "the vocabulary allows %zu merges; the limit is %d", count,
                       AA__JOINS_MAX);
    aa__join *joins = aa_heap_alloc(count + 1, sizeof *joins);
    if (!joins) return aa_fail_memory(err, "the merges of a tokenizer", count * sizeof *joins);
    for (size_t id = 0; id < t->n_vocab; id++) at += joins_of(t, (int32_t)id, joins + at);
    qsort(joins, count, sizeof *joins, by_rank);
    *out = joins;
    *n = count;
    return AA_OK;
}
