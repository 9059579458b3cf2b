/* data/story: writing stories, and reading them back to the choices that made them.
 *
 * The grammar is a set of tables (story_words.c: word lists and variables; story_plots.c: rules).
 * Its language by example, a grammar of two rules:
 *
 *     list  pets    "name|sound"     "cat|purred;dog|barked;owl|hooted"
 *     var   pet     of list pets
 *     rule  story   1  "Tom had {+a pet}. <mood>The {pet} {pet.sound}."
 *     rule  mood    3  "It was a quiet day. "
 *                   1  ""
 *
 * {+a pet} is a choice: 1 of 3 words, log2 3 bits. <mood> is a choice of chance 3/4 or 1/4: 0.415
 * or 2 bits. {pet} and {pet.sound} repeat what was chosen and cost nothing: that the owl hoots,
 * that Lily is "she", that what was lost is what is found, is agreement, which a perfect reader
 * predicts. So "Tom had an owl. The owl hooted." has a surprisal of log2 3 + 2 = 3.585 bits. The
 * grammar has 6 texts and an entropy of log2 3 + H(1/4) = 2.396 bits.
 *
 * Because a text has exactly one derivation (proved for these tables by aa__story_check, and
 * counted again for every text read), P(text) is the product of the chances along it, and -log2 P
 * is what the best possible model of these stories would pay, to the last bit. No model's loss can
 * be lower on average than the mean surprisal, however the text is cut into tokens.
 *
 * Writing draws each choice with aa_rng_below from the stream (seed, AA_RNG_STORY, story number):
 * the chances are exact and stories independent. Reading is recursive descent with full
 * backtracking: where the text agrees with a choice, it is followed to the end of the text, so all
 * derivations are found; wrong ones die within a few words, which keeps it linear in practice.
 */
#include "data/story.h"
#include "data/story_grammar.h"
#include <math.h>
#include <string.h>

/* ---- writing --------------------------------------------------------------------------------- */

typedef struct writer {
    const aa__story_grammar *g;
    aa_rng *rng;
    aa_text *out;
    double bits;
    uint32_t held[AA__STORY_VARS];
} writer;

/* A word of the variable's list, uniform among those not held by the variables it is unlike. */
static void draw(writer *w, uint32_t var) {
    const aa__story_var *v = &w->g->vars[var];
    uint32_t taken[AA__STORY_UNLIKE], word = (uint32_t)aa_rng_below(w->rng, v->n_choices);
    for (uint32_t i = 0; i < v->n_unlike; i++) { /* insertion keeps taken[] ascending */
        uint32_t t = w->held[v->unlike[i]], k = i;
        for (; k && taken[k - 1] > t; k--) taken[k] = taken[k - 1];
        taken[k] = t;
    }
    for (uint32_t i = 0; i < v->n_unlike; i++) word += word >= taken[i];
    w->held[var] = word;
    w->bits += v->bits;
}

static void write_rule(writer *w, const aa__story_rule *r) {
    char piece[AA__STORY_PIECE];
    const aa__story_alt *alt = &w->g->alts[r->first_alt];
    if (r->n_alts > 1) {
        uint64_t at = aa_rng_below(w->rng, r->weight);
        for (; at >= alt->weight; alt++) at -= alt->weight;
    }
    w->bits += alt->bits;
    for (const aa__story_item *it = alt->items; it->kind != AA__ITEM_END; it++) {
        if (it->kind == AA__ITEM_TEXT) {
            aa_text_add_bytes(w->out, it->text.p, it->text.n);
        } else if (it->kind == AA__ITEM_RULE) {
            write_rule(w, &w->g->rules[it->id]);
        } else {
            if (it->kind == AA__ITEM_DRAW) draw(w, it->id);
            aa_text_add_bytes(w->out, piece, aa__story_render(w->g, it, w->held[it->id], piece));
        }
    }
}

void aa__story_generate(const aa__story_grammar *g, aa_rng *r, aa_text *out, double *bits) {
    writer w = {.g = g, .rng = r, .out = out};
    write_rule(&w, &g->rules[0]);
    if (bits) *bits = w.bits;
}

void aa_story_write(aa_text *out, uint64_t seed, uint64_t n) {
    aa_rng r;
    aa_rng_init(&r, seed, AA_RNG_STORY, n);
    aa__story_generate(aa__story_default(), &r, out, NULL);
    aa_text_add_bytes(out, "\n", 1);
}

void aa_story_corpus(aa_text *out, uint64_t seed, uint64_t first, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        if (i) aa_text_add_bytes(out, "\n", 1);
        aa_story_write(out, seed, first + i);
    }
}

/* ---- reading --------------------------------------------------------------------------------- */

typedef struct reader {
    const aa__story_grammar *g;
    const char *text;
    size_t n, stop, n_found;
    double bits;
    uint32_t held[AA__STORY_VARS];
} reader;

typedef struct frame {
    const aa__story_item *next;
    const struct frame *up;
} frame;

/* Does p[0..n) stand at `at`? Notes how far the text agreed. */
static bool follows(reader *r, size_t at, const char *p, size_t n) {
    size_t most = r->n - at < n ? r->n - at : n, i = 0;
    while (i < most && r->text[at + i] == p[i]) i++;
    if (at + i > r->stop) r->stop = at + i;
    return i == n;
}

static bool is_taken(const reader *r, const aa__story_var *v, uint32_t word) {
    for (uint32_t i = 0; i < v->n_unlike; i++)
        if (r->held[v->unlike[i]] == word) return true;
    return false;
}

/* Follows all derivations of text[at..n) by the items from `it` and then those of the frames. */
static void read_items(reader *r, const aa__story_item *it, const frame *up, size_t at,
                       double bits) {
    char piece[AA__STORY_PIECE];
    for (;; it++) {
        while (it->kind == AA__ITEM_END) {
            if (!up) {
                if (at == r->n) r->n_found++, r->bits = bits;
                return;
            }
            it = up->next, up = up->up;
        }
        if (it->kind == AA__ITEM_TEXT) {
            if (!follows(r, at, it->text.p, it->text.n)) return;
            at += it->text.n;
        } else if (it->kind == AA__ITEM_COPY) {
            size_t n = aa__story_render(r->g, it, r->held[it->id], piece);
            if (!follows(r, at, piece, n)) return;
            at += n;
        } else {
            break;
        }
    }
    if (it->kind == AA__ITEM_RULE) {
        const aa__story_rule *rule = &r->g->rules[it->id];
        const aa__story_alt *alt = &r->g->alts[rule->first_alt];
        frame f = {it + 1, up};
        for (uint32_t i = 0; i < rule->n_alts; i++)
            read_items(r, alt[i].items, &f, at, bits + alt[i].bits);
        return;
    }
    const aa__story_var *v = &r->g->vars[it->id];
    uint32_t before = r->held[it->id];
    for (uint32_t w = 0; w < r->g->lists[v->list].n_words; w++) {
        size_t n = aa__story_render(r->g, it, w, piece);
        if (!follows(r, at, piece, n) || is_taken(r, v, w)) continue;
        r->held[it->id] = w;
        read_items(r, it + 1, up, at + n, bits + v->bits);
    }
    r->held[it->id] = before;
}

size_t aa__story_parse(const aa__story_grammar *g, const char *text, size_t n, double *bits,
                       size_t *stop) {
    reader r = {.g = g, .text = text, .n = n};
    const aa__story_rule *start = &g->rules[0];
    for (uint32_t i = 0; i < start->n_alts; i++) {
        const aa__story_alt *alt = &g->alts[start->first_alt + i];
        read_items(&r, alt->items, NULL, 0, alt->bits);
    }
    if (bits && r.n_found) *bits = r.bits;
    if (stop) *stop = r.stop;
    return r.n_found;
}

/* One story without its final newline, which stands outside the grammar: it is never a choice. The
 * story begins at byte `base` of what the caller was given. */
static aa_status read_story(const char *text, size_t n, size_t base, double *bits, aa_err *err) {
    size_t stop = 0, found = aa__story_parse(aa__story_default(), text, n, bits, &stop);
    if (found == 1) return AA_OK;
    if (found > 1)
        return aa_fail(err, AA_EINTERNAL, "the story at byte %zu has %zu derivations", base, found);
    if (stop == n)
        return aa_fail(err, AA_EFORMAT, "at byte %zu the text ends in the middle of a story",
                       base + n);
    return aa_fail(err, AA_EFORMAT,
                   "byte %zu: the text stops being a story of the generator at '%.*s'", base + stop,
                   (int)(n - stop < 24 ? n - stop : 24), text + stop);
}

aa_status aa_story_surprisal(const char *text, size_t n, double *out_bits, aa_err *err) {
    double bits = 0;
    AA_TRY(read_story(text, n && text[n - 1] == '\n' ? n - 1 : n, 0, &bits, err));
    *out_bits = bits;
    return AA_OK;
}

aa_status aa_story_corpus_surprisal(const char *text, size_t n, double *out_bits, size_t *n_stories,
                                    aa_err *err) {
    double sum = 0, bits = 0;
    size_t count = 0;
    for (size_t at = 0; at < n;) {
        if (text[at] == '\n') {
            at++;
            continue;
        }
        const char *end = memchr(text + at, '\n', n - at);
        size_t len = end ? (size_t)(end - text) - at : n - at;
        AA_TRY(read_story(text + at, len, at, &bits, err));
        sum += bits, count++, at += len;
    }
    *out_bits = sum;
    if (n_stories) *n_stories = count;
    return AA_OK;
}

double aa_story_log2_count(void) { return log2(aa__story_default()->rules[0].count); }
double aa_story_entropy_bits(void) { return aa__story_default()->rules[0].entropy_bits; }
