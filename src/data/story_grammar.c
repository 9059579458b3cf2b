/* data/story_grammar: from tables to items, counts and a proof. The language of the tables is in
 * story_grammar.h, what they are for in story.c.
 *
 * Why no text has two derivations. Call two texts *compatible* if one is a prefix of the other.
 * Suppose
 *
 *   (1) any two templates of a rule, the empty one aside, derive only incompatible texts;
 *   (2) where a template draws a word, (word + rest of the template) is incompatible for any two;
 *   (3) where a template uses an optional rule, (its text + rest) is incompatible with (rest).
 *
 * Then, by induction on the nesting of rules, a text has at most one derivation from a rule as a
 * prefix of it: by (1) only one template can be the one, by (2) and (3) each choice inside it is
 * settled by the rest of that same template, and nested rules follow from the hypothesis.
 * aa__story_check establishes (1)-(3) by walking pairs of derivations side by side: equal bytes are
 * consumed, a differing byte settles the pair, a slot is expanded into all it can print. Variables
 * drawn before the two parted hold the same word on both sides, and those drawn since hold the word
 * drawn, so the walk is exact about agreement. It refuses when either side runs out.
 *
 * Counts: texts of a template = product over its slots, of a rule = sum over its templates; as no
 * two derivations give one text, the number of derivations is the number of texts. Entropy of a
 * rule = sum p (log2 1/p + entropies of the template's slots): chances do not depend on context (a
 * draw has n - |unlike| outcomes whatever the words are), so the sum is exact.
 */
#include "data/story_grammar.h"
#include <math.h>
#include <pthread.h>
#include <string.h>

#define bug(err, ...) aa_fail(err, AA_EINTERNAL, __VA_ARGS__)

/* ---- tables to items ------------------------------------------------------------------------- */

static bool same(const char *name, const char *s, size_t n) {
    return strlen(name) == n && !memcmp(name, s, n);
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }
static char upper(char c) { return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c; }

/* The next part of s before sep; *s moves behind it, to NULL after the last. */
static aa__span next_part(const char **s, const char *end, char sep) {
    const char *p = *s, *q = memchr(p, sep, (size_t)(end - p));
    *s = q ? q + 1 : NULL;
    return (aa__span){p, (uint32_t)((q ? q : end) - p)};
}

static uint32_t split(aa__span s, char sep, aa__span *out, uint32_t max) {
    uint32_t n = 0;
    for (const char *p = s.p, *end = s.p + s.n; p;) {
        aa__span part = next_part(&p, end, sep);
        if (n < max) out[n] = part;
        n++;
    }
    return n;
}

enum { MAX_FIELDS = 12 };

static aa_status add_list(aa__story_grammar *g, const aa__story_list_row *row, aa_err *err) {
    aa__span tail[MAX_FIELDS], word[MAX_FIELDS], names[MAX_FIELDS];
    uint32_t n_tail = 0;
    if (g->n_lists == AA__STORY_LISTS)
        return bug(err, "stories: more than %d lists", AA__STORY_LISTS);
    aa__story_list *l = &g->lists[g->n_lists++];
    *l = (aa__story_list){.name = row->name, .fields = row->fields, .first = g->n_spans};
    l->n_fields =
        split((aa__span){row->fields, (uint32_t)strlen(row->fields)}, '|', names, MAX_FIELDS);
    if (l->n_fields > MAX_FIELDS)
        return bug(err, "stories: list %s has too many fields", row->name);
    const char *end = row->words + strlen(row->words);
    for (const char *p = row->words; p;) {
        aa__span entry = next_part(&p, end, ';');
        if (entry.n && *entry.p == '=') {
            n_tail = split((aa__span){entry.p + 1, entry.n - 1}, '|', tail, MAX_FIELDS);
            continue;
        }
        uint32_t k = split(entry, '|', word, MAX_FIELDS);
        if (k > l->n_fields || (k < l->n_fields && k + n_tail != l->n_fields))
            return bug(err, "stories: list %s, word '%.*s': %u fields, wanted %u", row->name,
                       (int)entry.n, entry.p, k, l->n_fields);
        for (uint32_t f = 0; k < l->n_fields; f++, k++) word[k] = tail[f];
        if (g->n_spans + k > AA__STORY_SPANS) return bug(err, "stories: too many words");
        for (uint32_t f = 0; f < k; f++) {
            if (!word[f].n || word[f].n + 4 > AA__STORY_PIECE)
                return bug(err, "stories: list %s, word '%.*s': a field of %u bytes", row->name,
                           (int)entry.n, entry.p, word[f].n);
            g->spans[g->n_spans++] = word[f];
        }
        l->n_words++;
    }
    return AA_OK;
}

static int find_var(const aa__story_grammar *g, const char *s, size_t n) {
    for (uint32_t i = 0; i < g->n_vars; i++)
        if (same(g->vars[i].name, s, n)) return (int)i;
    return -1;
}

static aa_status add_var(aa__story_grammar *g, const aa__story_var_row *row, aa_err *err) {
    if (g->n_vars == AA__STORY_VARS)
        return bug(err, "stories: more than %d variables", AA__STORY_VARS);
    aa__story_var v = {.name = row->name};
    while (v.list < g->n_lists && strcmp(g->lists[v.list].name, row->list)) v.list++;
    if (v.list == g->n_lists)
        return bug(err, "stories: variable %s of unknown list %s", row->name, row->list);
    for (const char *p = row->unlike, *end = p ? p + strlen(p) : p; p;) {
        aa__span name = next_part(&p, end, ' ');
        int u = find_var(g, name.p, name.n);
        if (u < 0 || g->vars[u].list != v.list || v.n_unlike == AA__STORY_UNLIKE)
            return bug(err, "stories: variable %s cannot be unlike '%.*s'", row->name, (int)name.n,
                       name.p);
        /* all must differ from each other, or n - |unlike| would be wrong */
        for (uint32_t i = 0; i < v.n_unlike; i++) {
            bool differ = false;
            for (uint32_t k = 0; k < g->vars[u].n_unlike; k++)
                differ |= g->vars[u].unlike[k] == v.unlike[i];
            if (!differ)
                return bug(err, "stories: variable %s: '%.*s' may equal another", row->name,
                           (int)name.n, name.p);
        }
        v.unlike[v.n_unlike++] = (uint16_t)u;
        g->named |= 1ull << u;
    }
    if (g->lists[v.list].n_words <= v.n_unlike)
        return bug(err, "stories: list %s is too short", row->list);
    v.n_choices = g->lists[v.list].n_words - v.n_unlike;
    v.bits = log2(v.n_choices);
    g->vars[g->n_vars++] = v;
    return AA_OK;
}

static int find_rule(const aa__story_grammar *g, const char *s, size_t n) {
    for (uint32_t i = 0; i < g->n_rules; i++)
        if (same(g->rules[i].name, s, n)) return (int)i;
    return -1;
}

/* Reads a name, lowering its initial; *capital is set if that was a capital. */
static size_t read_name(const char **s, const char *end, char out[32], bool *capital) {
    size_t n = 0;
    for (; *s < end && **s != '.' && n + 1 < 32; (*s)++) out[n++] = **s;
    out[n] = 0;
    *capital |= n && lower(out[0]) != out[0];
    out[0] = lower(out[0]);
    return n;
}

/* s..end is the inside of {...}. */
static aa_status read_slot(const aa__story_grammar *g, aa__story_item *it, const char *s,
                           const char *end, const char *source, aa_err *err) {
    char name[32];
    const char *slot = s;
    it->kind = AA__ITEM_COPY;
    if (s < end && *s == '+') it->kind = AA__ITEM_DRAW, s++;
    if (end - s > 2 && lower(s[0]) == 'a' && s[1] == ' ') {
        it->article = true;
        it->capital = s[0] == 'A';
        s += 2;
    }
    size_t n = read_name(&s, end, name, &it->capital);
    int var = find_var(g, name, n);
    if (var < 0)
        return bug(err, "stories: no variable for {%.*s} in '%s'", (int)(end - slot), slot, source);
    it->id = (uint16_t)var;
    if (s == end) return AA_OK;
    s++;
    n = read_name(&s, end, name, &it->capital);
    const char *fields = g->lists[g->vars[var].list].fields, *p = fields;
    for (uint8_t f = 0; p; f++) {
        aa__span field = next_part(&p, fields + strlen(fields), '|');
        if (field.n == n && !memcmp(field.p, name, n)) return it->field = f, AA_OK;
    }
    return bug(err, "stories: no field for {%.*s} in '%s'", (int)(end - slot), slot, source);
}

static aa__story_item *new_item(aa__story_grammar *g, aa__item_kind kind) {
    if (g->n_items == AA__STORY_ITEMS) return NULL;
    g->items[g->n_items] = (aa__story_item){.kind = kind};
    return &g->items[g->n_items++];
}

static aa_status compile_template(aa__story_grammar *g, aa__story_alt *alt, aa_err *err) {
    const char *s = alt->source;
    aa__story_item *it;
    alt->items = &g->items[g->n_items];
    while (*s) {
        const char *close = *s == '{' ? strchr(s, '}') : *s == '<' ? strchr(s, '>') : s;
        if (!close) return bug(err, "stories: slot without end in '%s'", alt->source);
        size_t n = *s == '{' || *s == '<' ? 0 : strcspn(s, "{<");
        if (!(it = new_item(g, AA__ITEM_TEXT)) || g->n_pool + n > AA__STORY_POOL)
            return bug(err, "stories: the grammar is too large");
        if (*s == '{') {
            AA_TRY(read_slot(g, it, s + 1, close, alt->source, err));
        } else if (*s == '<') {
            int rule = find_rule(g, s + 1, (size_t)(close - s - 1));
            if (rule < 0)
                return bug(err, "stories: no rule %.*s in '%s'", (int)(close + 1 - s), s,
                           alt->source);
            it->kind = AA__ITEM_RULE;
            it->id = (uint16_t)rule;
        } else {
            it->text = (aa__span){g->pool + g->n_pool, (uint32_t)n};
            for (size_t i = 0; i < n; i++) g->pool[g->n_pool++] = s[i] == '`' ? '"' : s[i];
        }
        s = n ? s + n : close + 1;
    }
    return new_item(g, AA__ITEM_END) ? AA_OK : bug(err, "stories: the grammar is too large");
}

static aa_status add_alternative(aa__story_grammar *g, const aa__story_rule_row *row, aa_err *err) {
    aa__story_rule *rule = g->n_rules ? &g->rules[g->n_rules - 1] : NULL;
    if (!rule || strcmp(rule->name, row->rule)) {
        if (find_rule(g, row->rule, strlen(row->rule)) >= 0)
            return bug(err, "stories: rows of rule %s are apart", row->rule);
        if (g->n_rules == AA__STORY_RULES) return bug(err, "stories: too many rules");
        rule = &g->rules[g->n_rules++];
        *rule = (aa__story_rule){.name = row->rule, .first_alt = g->n_alts};
    }
    if (g->n_alts == AA__STORY_ALTS || row->weight < 1)
        return bug(err, "stories: too many templates, or weight %d, at '%s'", row->weight,
                   row->text);
    g->alts[g->n_alts++] = (aa__story_alt){.source = row->text, .weight = (uint32_t)row->weight};
    rule->n_alts++;
    rule->weight += (uint32_t)row->weight;
    return AA_OK;
}

/* ---- counts, entropy, binding ---------------------------------------------------------------- */

static aa_status measure_rule(aa__story_grammar *g, uint16_t id, aa_err *err);

/* Count, entropy and variables of one template. */
static aa_status measure_template(aa__story_grammar *g, const aa__story_alt *alt,
                                  aa__story_rule *out, aa_err *err) {
    *out = (aa__story_rule){.count = 1, .height = 1};
    for (const aa__story_item *it = alt->items; it->kind != AA__ITEM_END; it++) {
        uint64_t needs = 0, binds = 0, draws = 0;
        if (it->kind == AA__ITEM_RULE) {
            AA_TRY(measure_rule(g, it->id, err));
            const aa__story_rule *r = &g->rules[it->id];
            out->count *= r->count;
            out->entropy_bits += r->entropy_bits;
            if (out->height <= r->height) out->height = r->height + 1;
            needs = r->needs, binds = r->binds, draws = r->draws;
        } else if (it->kind == AA__ITEM_DRAW) {
            const aa__story_var *v = &g->vars[it->id];
            out->count *= v->n_choices;
            out->entropy_bits += v->bits;
            for (uint32_t i = 0; i < v->n_unlike; i++) needs |= 1ull << v->unlike[i];
            binds = draws = 1ull << it->id;
        } else if (it->kind == AA__ITEM_COPY) {
            needs = 1ull << it->id;
        }
        if (out->draws & draws & g->named)
            return bug(err, "stories: '%s' draws a variable twice that another is unlike of",
                       alt->source);
        out->needs |= needs & ~out->binds;
        out->binds |= binds;
        out->draws |= draws;
    }
    return AA_OK;
}

static aa_status measure_rule(aa__story_grammar *g, uint16_t id, aa_err *err) {
    enum { UNSEEN, OPEN, DONE };
    aa__story_rule *r = &g->rules[id], t;
    if (r->state == DONE) return AA_OK;
    if (r->state == OPEN) return bug(err, "stories: rule %s contains itself", r->name);
    r->state = OPEN;
    r->binds = ~0ull;
    for (uint32_t i = 0; i < r->n_alts; i++) {
        aa__story_alt *alt = &g->alts[r->first_alt + i];
        AA_TRY(measure_template(g, alt, &t, err));
        alt->bits = log2((double)r->weight / alt->weight);
        r->count += t.count;
        r->entropy_bits += (alt->bits + t.entropy_bits) * alt->weight / r->weight;
        r->needs |= t.needs;
        r->binds &= t.binds;
        r->draws |= t.draws;
        if (r->height < t.height) r->height = t.height;
    }
    r->state = DONE;
    return AA_OK;
}

aa_status aa__story_compile(aa__story_grammar *g, const aa__story_list_row *lists,
                            const aa__story_var_row *vars, const aa__story_rule_row *rules,
                            aa_err *err) {
    g->n_lists = g->n_vars = g->n_rules = g->n_alts = g->n_items = g->n_spans = g->n_pool = 0;
    g->named = 0;
    for (; lists->name; lists++) AA_TRY(add_list(g, lists, err));
    for (; vars->name; vars++) AA_TRY(add_var(g, vars, err));
    for (; rules->rule; rules++) AA_TRY(add_alternative(g, rules, err));
    for (uint32_t i = 0; i < g->n_alts; i++) AA_TRY(compile_template(g, &g->alts[i], err));
    if (!g->n_rules) return bug(err, "stories: no rules");
    AA_TRY(measure_rule(g, 0, err));
    for (uint32_t i = 1; i < g->n_rules; i++)
        if (!g->rules[i].state) return bug(err, "stories: nothing uses rule %s", g->rules[i].name);
    for (uint32_t v = 0; v < g->n_vars; v++)
        if (g->rules[0].needs >> v & 1)
            return bug(err, "stories: variable %s may be printed before it is drawn",
                       g->vars[v].name);
    return AA_OK;
}

size_t aa__story_render(const aa__story_grammar *g, const aa__story_item *it, uint32_t word,
                        char out[AA__STORY_PIECE]) {
    const aa__story_list *l = &g->lists[g->vars[it->id].list];
    aa__span s = g->spans[l->first + word * l->n_fields + it->field];
    size_t n = 0;
    if (it->article) {
        out[n++] = 'a';
        if (strchr("aeiou", lower(*s.p))) out[n++] = 'n';
        out[n++] = ' ';
    }
    memcpy(out + n, s.p, s.n);
    if (it->capital) out[0] = upper(out[0]);
    return n + s.n;
}

/* ---- the proof ------------------------------------------------------------------------------- */

typedef struct frame {
    const aa__story_item *next;
    const struct frame *up;
} frame;

/* One of two derivations walked side by side: bytes printed and not yet compared, then items. */
typedef struct side {
    const aa__story_item *it;
    const frame *up;     /* where to go on at the end of the template */
    const char *literal; /* the bytes are there, or in piece if NULL */
    size_t at, n;        /* compared so far, and in all */
    char piece[AA__STORY_PIECE];
    int16_t held[AA__STORY_VARS]; /* word; -1: drawn before the sides parted, any word yet */
} side;

static side side_at(const aa__story_item *it, const frame *up) {
    side s = {.it = it, .up = up};
    for (size_t i = 0; i < AA__STORY_VARS; i++) s.held[i] = -1;
    return s;
}

static void print(const aa__story_grammar *g, side *s, int word) {
    s->held[s->it->id] = (int16_t)word;
    s->n = aa__story_render(g, s->it, (uint32_t)word, s->piece);
    s->literal = NULL, s->at = 0;
    s->it++;
}

static bool is_optional(const aa__story_grammar *g, const aa__story_rule *r) {
    for (uint32_t i = 0; i < r->n_alts; i++)
        if (!*g->alts[r->first_alt + i].source) return true;
    return false;
}

static bool unlike(const aa__story_grammar *g, uint32_t a, uint32_t b) {
    for (uint32_t i = 0; i < g->vars[a].n_unlike; i++)
        if (g->vars[a].unlike[i] == b) return true;
    return false;
}

static bool allowed(const aa__story_grammar *g, const side *s, uint32_t var, int word) {
    for (uint32_t u = 0; u < g->n_vars; u++)
        if (s->held[u] == word && (unlike(g, var, u) || unlike(g, u, var))) return false;
    return true;
}

/* Moves to the next byte or slot; false at the end of the derivation. */
static bool advance(side *s) {
    while (s->at == s->n) {
        if (s->it->kind == AA__ITEM_TEXT) {
            s->literal = s->it->text.p, s->at = 0, s->n = s->it->text.n;
            s->it++;
        } else if (s->it->kind == AA__ITEM_END) {
            if (!s->up) return false;
            s->it = s->up->next, s->up = s->up->up;
        } else {
            break;
        }
    }
    return true;
}

/* Both stand before the same slot: if it must print the same on both sides, or else settle the
 * pair, pass it. A copy prints the same if the variable holds the same. A rule that is not optional
 * derives only incompatible texts (this is (1), proved for it in its own turn) from the same words
 * held, so compatible texts go through it alike, and what it draws is again common to both. */
static bool pass_same(const aa__story_grammar *g, side *a, side *b) {
    const aa__story_item *x = a->it, *y = b->it;
    if (a->at < a->n || b->at < b->n || x->kind != y->kind || x->id != y->id) return false;
    if (x->kind == AA__ITEM_COPY) {
        if (a->held[x->id] != b->held[x->id] || x->field != y->field || x->capital != y->capital ||
            x->article != y->article)
            return false;
    } else if (x->kind == AA__ITEM_RULE) {
        const aa__story_rule *r = &g->rules[x->id];
        if (is_optional(g, r)) return false;
        for (uint32_t v = 0; v < g->n_vars; v++)
            if ((r->needs | (r->draws & ~r->binds)) >> v & 1 && a->held[v] != b->held[v])
                return false;
        for (uint32_t v = 0; v < g->n_vars; v++)
            if (r->draws >> v & 1) a->held[v] = b->held[v] = -1;
    } else {
        return false;
    }
    a->it++, b->it++;
    return true;
}

static int height(const aa__story_grammar *g, const side *s) {
    return s->it->kind == AA__ITEM_RULE ? g->rules[s->it->id].height : 0;
}

static bool clash_expanded(const aa__story_grammar *g, const side *a, const side *b);

/* Can the two print compatible texts? */
static bool clash(const aa__story_grammar *g, const side *a0, const side *b0) {
    side a = *a0, b = *b0;
    for (;; a.at++, b.at++) {
        do {
            if (!advance(&a) || !advance(&b)) return true;
        } while (pass_same(g, &a, &b));
        /* two slots: the taller first, so that the same rule inside both is met on both sides */
        bool in_a = a.at < a.n, in_b = b.at < b.n;
        if (!in_a && (in_b || height(g, &a) >= height(g, &b))) return clash_expanded(g, &a, &b);
        if (!in_b) return clash_expanded(g, &b, &a);
        if ((a.literal ? a.literal : a.piece)[a.at] != (b.literal ? b.literal : b.piece)[b.at])
            return false;
    }
}

/* The same, where a stands before a slot: for all that it can print. */
static bool clash_expanded(const aa__story_grammar *g, const side *a, const side *b) {
    const aa__story_item *it = a->it;
    if (it->kind == AA__ITEM_RULE) {
        const aa__story_rule *r = &g->rules[it->id];
        for (uint32_t i = 0; i < r->n_alts; i++) {
            frame f = {it + 1, a->up};
            side s = *a;
            s.it = g->alts[r->first_alt + i].items, s.up = &f;
            if (clash(g, &s, b)) return true;
        }
        return false;
    }
    bool copy = it->kind == AA__ITEM_COPY;
    if (copy && a->held[it->id] >= 0) {
        side s = *a;
        print(g, &s, a->held[it->id]);
        return clash(g, &s, b);
    }
    for (int w = 0; w < (int)g->lists[g->vars[it->id].list].n_words; w++) {
        if (!allowed(g, a, it->id, w)) continue;
        side s = *a, t = *b;
        print(g, &s, w);
        if (copy && t.held[it->id] < 0) t.held[it->id] = (int16_t)w;
        if (clash(g, &s, &t)) return true;
    }
    return false;
}

static aa_status check_draw(const aa__story_grammar *g, const aa__story_alt *alt,
                            const aa__story_item *it, aa_err *err) {
    char x[AA__STORY_PIECE], y[AA__STORY_PIECE];
    int n = (int)g->lists[g->vars[it->id].list].n_words;
    for (int i = 0; i < n; i++) {
        side a = side_at(it, NULL);
        print(g, &a, i);
        for (int k = 0; k < i; k++) {
            side b = side_at(it, NULL);
            print(g, &b, k);
            if (!clash(g, &a, &b)) continue;
            return bug(err, "stories: variable %s in '%s' may be '%.*s' or '%.*s'",
                       g->vars[it->id].name, alt->source,
                       (int)aa__story_render(g, it, (uint32_t)i, x), x,
                       (int)aa__story_render(g, it, (uint32_t)k, y), y);
        }
    }
    return AA_OK;
}

/* Rule used at `it` of a template, if optional: taken or left out? */
static aa_status check_optional(const aa__story_grammar *g, const aa__story_alt *alt,
                                const aa__story_item *it, aa_err *err) {
    const aa__story_rule *r = &g->rules[it->id];
    const aa__story_alt *of = &g->alts[r->first_alt];
    frame f = {it + 1, NULL};
    side without = side_at(it + 1, NULL);
    for (uint32_t i = 0; is_optional(g, r) && i < r->n_alts; i++) {
        side with = side_at(of[i].items, &f);
        if (*of[i].source && clash(g, &with, &without))
            return bug(err, "stories: optional rule %s in '%s': '%s' or nothing", r->name,
                       alt->source, of[i].source);
    }
    return AA_OK;
}

static aa_status check_rule(const aa__story_grammar *g, const aa__story_rule *r, aa_err *err) {
    const aa__story_alt *alt = &g->alts[r->first_alt];
    for (uint32_t i = 0; i < r->n_alts; i++) {
        side a = side_at(alt[i].items, NULL);
        for (uint32_t k = 0; k < i; k++) {
            side b = side_at(alt[k].items, NULL);
            bool empty = !*alt[i].source != !*alt[k].source;
            if (!empty && clash(g, &a, &b))
                return bug(err, "stories: rule %s may be '%s' or '%s'", r->name, alt[i].source,
                           alt[k].source);
        }
        for (const aa__story_item *it = alt[i].items; it->kind != AA__ITEM_END; it++) {
            if (it->kind == AA__ITEM_DRAW) AA_TRY(check_draw(g, &alt[i], it, err));
            if (it->kind == AA__ITEM_RULE) AA_TRY(check_optional(g, &alt[i], it, err));
        }
    }
    return AA_OK;
}

aa_status aa__story_check(const aa__story_grammar *g, aa_err *err) {
    for (uint32_t i = 0; i < g->n_rules; i++) AA_TRY(check_rule(g, &g->rules[i], err));
    return AA_OK;
}

/* ---- the one grammar ------------------------------------------------------------------------- */

static aa__story_grammar the_grammar;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void compile_default(void) {
    aa_status st =
        aa__story_compile(&the_grammar, aa__story_lists, aa__story_vars, aa__story_rules, NULL);
    aa_assert(st == AA_OK);
}

const aa__story_grammar *aa__story_default(void) {
    pthread_once(&once, compile_default);
    return &the_grammar;
}
