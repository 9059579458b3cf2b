/* data/story_grammar: the story grammar as tables, its compiled form, and the proof that it is
 * unambiguous. Private to the story files of this room and their test; callers use data/story.h.
 *
 * Three tables describe a grammar:
 *
 *   lists   name, fields, words. "name|he|his" names the fields of a word; words are separated
 *           by ';' and their fields by '|'. A row "=he|his" gives the words after it the fields
 *           they leave out.
 *   vars    name, list, unlike: a variable holds one word of a list, other than those that the
 *           variables named in `unlike` (separated by blanks, all of the same list) hold.
 *   rules   name, weight, template: rows of one rule stand together; weights are relative.
 *
 * A template is text with slots:
 *
 *   <rule>         one of the rule's templates, drawn by weight
 *   {+var.field}   draws a word for var (uniformly) and prints its field (the first if left out)
 *   {var.field}    prints a field of the word that var holds: no choice, no surprise
 *   {a var}        the field with "a" or "an" before it; also {+a var}
 *   {Var} {v.Fld}  an initial capital of variable or field capitalises what is printed
 *   `              a double quote
 *
 * A rule may have one empty template, which makes it optional where it is used.
 */
#ifndef AA_DATA_STORY_GRAMMAR_H
#define AA_DATA_STORY_GRAMMAR_H

#include "base/rng.h"
#include "base/status.h"
#include "base/text.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct aa__story_list_row {
    const char *name, *fields, *words;
} aa__story_list_row;
typedef struct aa__story_var_row {
    const char *name, *list, *unlike;
} aa__story_var_row;
typedef struct aa__story_rule_row {
    const char *rule;
    int weight;
    const char *text;
} aa__story_rule_row;

/* Each table ends with a row without a name; the first rule is the start. */
extern const aa__story_list_row aa__story_lists[];
extern const aa__story_var_row aa__story_vars[];
extern const aa__story_rule_row aa__story_rules[];

enum {
    AA__STORY_LISTS = 96,
    AA__STORY_VARS = 64,
    AA__STORY_RULES = 512,
    AA__STORY_ALTS = 2048,
    AA__STORY_ITEMS = 16384,
    AA__STORY_SPANS = 16384,
    AA__STORY_POOL = 1 << 18,
    AA__STORY_UNLIKE = 3, /* variables one may be unlike of */
    AA__STORY_PIECE = 128 /* longest printed field with article, bytes */
};

typedef struct aa__span {
    const char *p;
    uint32_t n;
} aa__span;

typedef enum {
    AA__ITEM_END,
    AA__ITEM_TEXT,
    AA__ITEM_DRAW,
    AA__ITEM_COPY,
    AA__ITEM_RULE
} aa__item_kind;
typedef struct aa__story_item {
    aa__item_kind kind;
    uint16_t id; /* DRAW, COPY: variable; RULE: rule */
    uint8_t field;
    bool capital, article;
    aa__span text; /* TEXT */
} aa__story_item;

typedef struct aa__story_list {
    const char *name, *fields;
    uint32_t first, n_words, n_fields;
} aa__story_list;
typedef struct aa__story_var {
    const char *name;
    uint16_t list, n_unlike, unlike[AA__STORY_UNLIKE];
    uint32_t n_choices; /* words of the list less n_unlike */
    double bits;        /* log2 n_choices */
} aa__story_var;
typedef struct aa__story_alt {
    const aa__story_item *items; /* up to AA__ITEM_END */
    const char *source;
    uint32_t weight;
    double bits; /* log2(weight of the rule / weight) */
} aa__story_alt;
typedef struct aa__story_rule {
    const char *name;
    uint32_t first_alt, n_alts, weight;
    double count, entropy_bits;   /* of what the rule derives */
    uint64_t needs, binds, draws; /* variables: wanted from outside; surely, perhaps drawn */
    int height;                   /* 1 + that of the tallest rule inside */
    int state;                    /* of the walk that computes them */
} aa__story_rule;

typedef struct aa__story_grammar {
    uint32_t n_lists, n_vars, n_rules, n_alts, n_items, n_spans, n_pool;
    aa__story_list lists[AA__STORY_LISTS];
    aa__story_var vars[AA__STORY_VARS];
    aa__story_rule rules[AA__STORY_RULES];
    aa__story_alt alts[AA__STORY_ALTS];
    aa__story_item items[AA__STORY_ITEMS];
    aa__span spans[AA__STORY_SPANS]; /* list.first + word * n_fields + field */
    char pool[AA__STORY_POOL];       /* literal text */
    uint64_t named;                  /* variables that another is unlike of: drawn once */
} aa__story_grammar;

/* Compiles tables into *g (any content before). AA_EINTERNAL names the row that is wrong: unknown
 * names, uneven fields, a rule that contains itself, a variable printed before it is drawn. No
 * heap. */
aa_status aa__story_compile(aa__story_grammar *g, const aa__story_list_row *lists,
                            const aa__story_var_row *vars, const aa__story_rule_row *rules,
                            aa_err *err) AA_MUST_USE;
/* Proves that no text has two derivations, or names two choices that can print the same (see the
 * head of story_grammar.c; sufficient, not necessary). */
aa_status aa__story_check(const aa__story_grammar *g, aa_err *err) AA_MUST_USE;
/* What a DRAW or COPY item prints for a word; returns the length. */
size_t aa__story_render(const aa__story_grammar *g, const aa__story_item *it, uint32_t word,
                        char out[AA__STORY_PIECE]);
/* The grammar of data/story.h, compiled on first use. */
const aa__story_grammar *aa__story_default(void);

/* One text of the grammar; *bits (if given) receives
 * the surprisals of the choices, added in order. */
void aa__story_generate(const aa__story_grammar *g, aa_rng *r, aa_text *out, double *bits);
/* All derivations of exactly these n bytes: returns their number, *bits is the surprisal of the
 * last one, *stop the first byte that no derivation gets past. */
size_t aa__story_parse(const aa__story_grammar *g, const char *text, size_t n, double *bits,
                       size_t *stop);

#endif
