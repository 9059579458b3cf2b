/* What --adapter and the options of its group mean for the model at hand: where there is a term, of
 * which rank, and what else trains. */
#include <stdlib.h>
#include <string.h>
#include "base/memory.h"
#include "train/adapter.h"

typedef struct word { const char *at; size_t n; } word;

/* The next of a list separated by commas; false at its end. */
static bool next_word(const char **list, word *out) {
    const char *s = *list;
    while (*s == ',' || *s == ' ') s++;
    size_t n = strcspn(s, ", ");
    *out = (word){s, n};
    *list = s + n;
    return n > 0;
}

static bool is(word w, const char *name) {
    return strlen(name) == w.n && memcmp(w.at, name, w.n) == 0;
}

static bool target_named(word w, aa_target *out) {
    for (aa_target t = 0; t < AA_TARGET_COUNT; t++)
        if (is(w, aa_target_name(t))) {
            *out = t;
            return true;
        }
    return false;
}

/* A whole number of lo..hi, and nothing else. */
static bool whole(word w, int64_t lo, int64_t hi, int64_t *out) {
    char text[24], *end;
    if (!w.n || w.n >= sizeof text || w.at[0] < '0' || w.at[0] > '9') return false;
    memcpy(text, w.at, w.n);
    text[w.n] = 0;
    *out = strtoll(text, &end, 10);
    return !*end && *out >= lo && *out <= hi;
}

static aa_status bad_word(const char *option, word w, const char *want, aa_err *err) {
    return aa_fail(err, AA_EUSAGE, "--%s: '%.*s' is not %s", option, (int)w.n, w.at, want);
}

#define TARGETS "q, k, v, o, gate, up or down"

static aa_status set_targets(const aa_train_options *o, const aa_config *c, aa_lora_site *sites,
                             aa_err *err) {
    const char *list = o->targets ? o->targets : "";
    word w;
    while (next_word(&list, &w)) {
        aa_target t;
        if (!target_named(w, &t)) return bad_word("targets", w, "one of " TARGETS, err);
        for (int64_t layer = 0; layer < c->layers; layer++)
            sites[layer * AA_TARGET_COUNT + t] = (aa_lora_site){(size_t)o->rank, o->alpha};
    }
    return AA_OK;
}

/* [BLOCK.]TARGET=RANK; alpha goes with the rank, so that the scale stays. */
static aa_status set_pattern(const aa_train_options *o, const aa_config *c, word w,
                             aa_lora_site *sites, aa_err *err) {
    static const char want[] = "[BLOCK.]TARGET=RANK";
    const char *equals = memchr(w.at, '=', w.n), *dot = memchr(w.at, '.', w.n);
    int64_t first = 0, end = c->layers, rank;
    aa_target t;
    if (!equals) return bad_word("rank-pattern", w, want, err);
    word name = {w.at, (size_t)(equals - w.at)}, value = {equals + 1, w.n - name.n - 1};
    if (dot && dot < equals) {
        word block = {w.at, (size_t)(dot - w.at)};
        if (!whole(block, 0, c->layers - 1, &first))
            return aa_fail(err, AA_EUSAGE,
                           "--rank-pattern: there is no block '%.*s'; the model's are 0..%lld",
                           (int)block.n, block.at, (long long)c->layers - 1);
        end = first + 1;
        name = (word){dot + 1, (size_t)(equals - dot - 1)};
    }
    if (!target_named(name, &t)) return bad_word("rank-pattern", name, "one of " TARGETS, err);
    if (!whole(value, 0, AA_LORA_MAX_RANK, &rank))
        return aa_fail(err, AA_EUSAGE, "--rank-pattern: '%.*s' is not a rank of 0..%d",
                       (int)value.n, value.at, AA_LORA_MAX_RANK);
    for (int64_t layer = first; layer < end; layer++)
        sites[layer * AA_TARGET_COUNT + t] =
            (aa_lora_site){(size_t)rank, o->alpha * (double)rank / (double)o->rank};
    return AA_OK;
}

static aa_status set_tables(const aa_train_options *o, const aa_config *c, aa_lora *lora,
                            aa_err *err) {
    const char *list = o->train_tables ? o->train_tables : "";
    word w;
    while (next_word(&list, &w)) {
        if (is(w, "embedding")) lora->embedding = true;
        else if (is(w, "head")) lora->head = true;
        else return bad_word("train-tables", w, "embedding or head", err);
    }
    if (c->tied && (lora->embedding || lora->head)) {
        lora->embedding = true;            /* one table */
        lora->head = false;
    }
    if ((lora->embedding || lora->head) && o->compact_vocab)
        return aa_fail(err, AA_EUSAGE,
                       "--train-tables trains tables of the whole vocabulary, --compact-vocab has "
                       "a part of them: use one of the two");
    return AA_OK;
}

aa_status aa__adapter_of_options(const aa_train_options *o, const aa_config *c, aa_lora *out,
                                 aa_lora_site **out_sites, aa_err *err) {
    size_t n = (size_t)c->layers * AA_TARGET_COUNT;
    aa_lora_site *sites = aa_heap_alloc(n, sizeof *sites);
    aa_lora lora = {.site = sites, .rslora = o->rslora, .freeze_a = o->freeze_a,
                    .dora = o->adapter == AA_ADAPTER_DORA, .norms = o->train_norms,
                    .dropout = o->lora_dropout, .seed = (uint64_t)o->seed};
    const char *list = o->rank_pattern ? o->rank_pattern : "";
    word w;
    if (!sites) return aa_fail_memory(err, "the sites of an adapter", n * sizeof *sites);
    *out_sites = sites;                    /* the caller's from now on */
    AA_TRY(set_targets(o, c, sites, err));
    while (next_word(&list, &w)) AA_TRY(set_pattern(o, c, w, sites, err));
    AA_TRY(set_tables(o, c, &lora, err));
    if (!aa_lora_widest(&lora, c))
        return aa_fail(err, AA_EUSAGE,
                       "--targets and --rank-pattern leave no linear map a term: name some of "
                       TARGETS);
    *out = lora;
    return AA_OK;
}

aa_status aa__adapter_check(const aa_train_options *o, aa_err *err) {
    if (o->adapter == AA_ADAPTER_NONE) return AA_OK;
    if (!o->base)
        return aa_fail(err, AA_EUSAGE,
                       "--adapter needs --base MODEL, whose weights it leaves as they are");
    if (o->device == AA_DEVICE_BLAS)
        return aa_fail(err, AA_EUSAGE,
                       "--device blas has no low-rank terms: train adapters with --device cpu");
    if (o->optimizer == AA_OPTIM_BADAM)
        return aa_fail(err, AA_EUSAGE,
                       "--optimizer badam takes turns with the model's own rows; an adapter is "
                       "small enough for adamw");
    if (o->adapter == AA_ADAPTER_DORA && o->lora_dropout > 0)
        return aa_fail(err, AA_EUSAGE,
                       "--lora-dropout goes with --adapter lora alone: under dora the base would "
                       "see both whole and dropped inputs, at twice the work");
    return AA_OK;
}
